/* SPDX-License-Identifier: Apache-2.0
 *
 * The switch of the planted bugs (base/plant.h), in the simulator only.
 */
#include "base/plant.h"

uint64_t plant_mask;
