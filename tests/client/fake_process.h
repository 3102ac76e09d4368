/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake cluster in a process of its own, over TCP on loopback. Its truth is in that process: the caller's
 * `fake` is a copy that nothing changes.
 */
#ifndef TESTS_CLIENT_FAKE_PROCESS_H
#define TESTS_CLIENT_FAKE_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Before the caller makes threads or cores. Writes "host:port,host:port" of the monitors. */
pid_t fake_process_start(char monitors[128]);
void fake_process_stop(pid_t pid);
/* One of the shards answers whatever it is asked with ERR_DAMAGED, from soon after this on; or as usual again. */
void fake_process_refuse(pid_t pid, bool refuse);
/* The image has half of its size now; or all of it again. */
void fake_process_resize(pid_t pid);

#endif
