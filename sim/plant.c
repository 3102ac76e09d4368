/* SPDX-License-Identifier: Apache-2.0
 *
 * The switch of the planted bugs (base/plant.h), in the simulator only.
 */
#include "base/plant.h"
#include "mon/items.h"

bool plants_set[PLANT_COUNT];
bool plants_scarce;
bool mon_small_limits; /* mon/items.h */
