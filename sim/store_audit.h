/* SPDX-License-Identifier: Apache-2.0
 *
 * What a store counts, counted anew: for the scenarios that have stores.
 */
#ifndef SIM_STORE_AUDIT_H
#define SIM_STORE_AUDIT_H

#include <stdbool.h>

struct sim;
struct store;

/* Fails the run if a count is wrong. Not while somebody copies or repairs an object, for what that holds is known to
 * him alone. False: likewise, destage holds something; nothing was looked at. */
bool store_audit(struct sim *sim, const struct store *s);

#endif
