# SPDX-License-Identifier: Apache-2.0
"""What bench/idle and bench/elections share: three OSDs of one shard and a monitor on this machine, with one pool of many placement groups."""
import json
import os
import subprocess
import sys
import time

from measure import end_processes

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("FASTBLOCK_BUILD", os.path.join(ROOT, "build"))
REST_S = 3  # until groups are at rest


class Cluster:
    def __init__(self, base, name, build, pgs, write):
        self.dir, self.name, self.pgs = os.path.join(base, f"{name}-{pgs}"), name, pgs
        self.program, self.env = os.path.join(build, "src/cmd/fastblock"), dict(os.environ)
        began = time.monotonic()
        self.call("cluster", "up", self.dir, "--size", "16G", "--cache", "32M")  # room for an image record in each of 10,000 PGs
        self.env["FASTBLOCK_MON"] = self.call("cluster", "env", self.dir)["FASTBLOCK_MON"]
        self.call("pool", "create", "p", "--pgs", str(pgs))
        self.wait_active()
        print(f"{name}, {pgs} PGs: active after {time.monotonic() - began:.1f} s", file=sys.stderr)
        if write:
            self.call("image", "create", "p/i", "--size", f"{2 * pgs}M")  # an object for each
            self.call("bench", "p/i", "--rw", "randwrite", "--bs", "4k", "--qd", "16", "--time", "1")
        rows = {row["name"]: row["pid"] for row in self.call("cluster", "status", self.dir) if row["running"]}
        self.osds = [pid for name, pid in rows.items() if name.startswith("osd.")]
        self.others = [pid for name, pid in rows.items() if not name.startswith("osd.")]

    def call(self, *args):
        done = subprocess.run([self.program, *args, "--json"], env=self.env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"fastblock {' '.join(args)}: {done.stderr}")
        return json.loads(done.stdout or "null")

    def wait_active(self):
        end = time.monotonic() + 170
        while True:
            status = self.call("status")
            if status["pgs_active"] == status["pgs"] == self.pgs and status["pgs_degraded"] == 0:
                return
            if time.monotonic() > end:
                raise SystemExit(f"{self.name}, {self.pgs} PGs: {status['pgs_active']} of {status['pgs']} active")
            time.sleep(0.2)

    def progress(self):
        appends = sum(self.call("perf", osd)[0]["counters"]["osd.appends_sent"] for osd in ("osd.0", "osd.1", "osd.2"))
        return appends, self.call("status")["epoch"]

    def wait_rest(self, limit):
        """Until for a while nothing has been replicated and the map has not changed: births, and leaders that go home after them, are traffic."""
        seen, end = None, time.monotonic() + limit
        while seen != (seen := self.progress()) and time.monotonic() < end:
            time.sleep(REST_S)

    def down(self):
        subprocess.run([self.program, "cluster", "down", self.dir], capture_output=True, check=False)
        end_processes(self.dir)
