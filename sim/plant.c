/* SPDX-License-Identifier: Apache-2.0
 *
 * The switch of the planted bugs (base/plant.h), in the simulator only.
 */
#include "base/plant.h"

bool plants_set[PLANT_COUNT];
