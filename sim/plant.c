/* SPDX-License-Identifier: Apache-2.0
 *
 * The switch of the planted bugs (base/plant.h), in the simulator only.
 */
#define FASTBLOCK_PLANT
#include "base/plant.h"

uint64_t plant_mask;
