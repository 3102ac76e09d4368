# SPDX-License-Identifier: Apache-2.0
"""A monitor with 10,000 connections: it stays up and bounded, and serves when there is room."""
import os
import resource
import socket
import time

from harness import Cluster, expect, main, wait_for

CROWD = 10000


class Small(Cluster):
    def __init__(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        os.environ.pop("MALLOC_PERTURB_", None)  # it writes to memory that nobody uses
        super().__init__(osds=1)


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


def test_ten_thousand_connections(c):
    host, port = c.env["FASTBLOCK_MON"].rsplit(":", 1)
    pid, before = c.pid("mon"), memory_kib(c.pid("mon"))
    crowd, refused = [], 0
    for n in range(CROWD):
        s = socket.socket()
        s.settimeout(5)
        try:
            s.connect((host, int(port)))
            if n % 10 == 0:
                s.sendall(b"x" * 100)  # no frame
            crowd.append(s)
        except OSError:
            refused += 1
    busy = c.fb("status", code=None) if c else None
    print(f"# {len(crowd)} connected, {refused} refused; then status: {'served' if c.code == 0 else c.stderr.strip()}, {busy and len(busy)} bytes")
    if c.code:
        expect("no monitor answers" in c.stderr, c.stderr)
    expect(c.pid("mon") == pid, "the monitor is gone")
    grown = memory_kib(pid) - before
    print(f"# memory grew by {grown} KiB")
    expect(grown < 128 << 10, f"memory grew by {grown} KiB")
    # Who does not greet is closed, so there is room again, though nobody has gone by himself.
    wait_for("room", lambda: c.fb("status", code=None) and c.code == 0, timeout=30)
    for s in crowd:
        s.close()
    c.fb("pool", "create", "p", "--pgs", "4", "--replicas", "1")
    began = time.monotonic()
    c.fb("status")
    print(f"# status takes {time.monotonic() - began:.2f} s")
    expect(c.pid("mon") == pid, "the monitor is gone")


main(globals(), cluster=Small)
