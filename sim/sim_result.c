/* SPDX-License-Identifier: Apache-2.0
 *
 * What every run tells.
 */
#include <string.h>

#include "sim/scenarios.h"

void sim_result_take(struct sim_result *result, const struct sim *sim)
{
    result->failed = sim->failed;
    memcpy(result->failure, sim->failure, sizeof(result->failure));
    result->trace_hash = sim->trace_hash;
    result->virtual_ns = sim->now_ns;
    result->events = sim->events_fired;
    result->polls = sim->polls;
    result->faults = sim->faults;
    memcpy(result->injected, sim->injected, sizeof(result->injected));
    memcpy(result->intensity, sim->intensity, sizeof(result->intensity));
}
