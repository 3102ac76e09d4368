/* SPDX-License-Identifier: Apache-2.0
 *
 * Static tracepoints (USDT) of provider `fastblock`: perf, bpftrace and SystemTap can attach to them in a
 * running process. One costs a nop and a note in the binary (`readelf -n`); where <sys/sdt.h> is missing it
 * costs nothing. docs/performance.md lists them with their arguments and shows how to use them. Names and the
 * order of arguments stay as they are once they are there: scripts use them.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#if __has_include(<sys/sdt.h>)
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
/* Up to 12 arguments: integers and pointers, evaluated in any case, so let them cost nothing. */
#define TRACE(stage, ...) STAP_PROBEV(fastblock, stage, __VA_ARGS__)
#else
#define TRACE(stage, ...) ((void)0)
#endif

#endif
