/* SPDX-License-Identifier: Apache-2.0
 *
 * The time slices that the kernel gives to a daemon's threads.
 *
 * A core runs in turns of some tens of microseconds, and a request waits for several cores on its way. Where
 * these share processors, slices of milliseconds let one of them keep the others waiting for that long.
 */
#ifndef BACKEND_TIMESLICE_H
#define BACKEND_TIMESLICE_H

/* Asks for short ones for the calling thread. It is a request: kernels before 6.12 take no notice. */
void timeslice_shorten(void);

#endif
