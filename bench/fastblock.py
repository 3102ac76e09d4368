# SPDX-License-Identifier: Apache-2.0
"""A fastblock cluster on this machine: a side of bench/compare, and what bench/model measures."""
import json
import os
import shutil
import subprocess
import time

from measure import IMAGES, Failure, cpu_seconds, end_processes, run

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("FASTBLOCK_BUILD", os.path.join(ROOT, "build"))
HOT_BYTES = 8 << 20  # of the image that is overwritten before it is written back
# A ring of an eighth of so many caches leaves as much to coalesce in as the cache does (destage.c): the cache is the limit, as on devices of a
# real size.
CACHES_PER_SHARD = 16
OSD_BYTES = 1280 << 20  # of an OSD beside its images: ring, chunks that the log holds, memory


class Fastblock:
    """A cluster of three OSDs as a side of bench/compare; up() makes the images, up_empty() does not."""

    def __init__(self, directory, image_bytes, spin, build=BUILD, name="fastblock", shards=1, cache_bytes=256 << 20):
        self.dir, self.image_bytes, self.spin, self.name = directory, image_bytes, spin, name
        self.program = os.path.join(build, "src/cmd/fastblock")
        self.shards, self.cache_bytes, self.env = shards, cache_bytes, dict(os.environ)

    up_seconds = 8

    @staticmethod
    def missing():
        path = os.path.join(BUILD, "src/cmd/fastblock")
        return None if os.path.exists(path) else f"{path}: meson setup build -Dbuildtype=release && ninja -C build"

    @staticmethod
    def takes(workload):
        return True

    @staticmethod
    def memory_bytes(image_bytes):
        return 3 * (2 * image_bytes + OSD_BYTES)

    def call(self, *args, limit=300):
        return json.loads(run([self.program, *args, "--json"], self.env, limit) or "null")

    def up_empty(self):
        size = max(CACHES_PER_SHARD * self.shards * self.cache_bytes, 1 << 30, 3 * self.image_bytes)
        self.call("cluster", "up", self.dir, "--size", str(size), "--spin", str(self.spin), "--shards", str(self.shards),
                  "--cache", str(self.cache_bytes))
        self.env["FASTBLOCK_MON"] = self.call("cluster", "env", self.dir)["FASTBLOCK_MON"]

    def wait_active(self):
        end = time.monotonic() + 60
        while True:
            status = self.call("status")
            if status["pgs_active"] == status["pgs"] and status["pgs_degraded"] == 0:
                return
            if time.monotonic() > end:
                raise Failure("fastblock: the placement groups do not become active")
            time.sleep(0.1)

    def create(self, image, size_bytes, fill=True):
        self.call("image", "create", image, "--size", str(size_bytes))
        if fill:
            run(["sh", "-c", f"head -c {size_bytes} /dev/urandom | '{self.program}' image import - {image} --overwrite --size {size_bytes}"], self.env)

    def up(self):
        self.up_empty()
        self.call("pool", "create", "p")
        self.wait_active()
        self.create("p/one", self.image_bytes)
        self.create("p/hot", HOT_BYTES)
        for number in range(IMAGES):
            self.create(f"p/many{number}", self.image_bytes // IMAGES)

    def pids(self):
        return [p["pid"] for p in self.call("cluster", "status", self.dir) if p["running"]]

    def measure(self, images, workload, seconds):
        pids = self.pids()
        before = cpu_seconds(pids)
        out = self.call("bench", ",".join(images), "--rw", workload.rw, "--bs", str(workload.block_bytes), "--qd", str(workload.depth),
                        "--time", str(seconds), "--spin", str(self.spin), limit=seconds + 60)
        daemons = cpu_seconds(pids) - before
        kinds = [out[kind] for kind in ("read", "write") if kind in out]
        iops = sum(kind["iops"] for kind in kinds)
        # Of a mix: the percentiles of the slower kind, which are no better than those of both together.
        return {"iops": iops, "mb_s": sum(kind["mb_per_s"] for kind in kinds), **{p: max(k[f"{p}_us"] for k in kinds) for p in ("p50", "p99", "p999")},
                "client_cpu": out["client_cpu_us_per_io"], "cpu": out["client_cpu_us_per_io"] + daemons * 1e6 / (iops * out["seconds"])}

    def run(self, workload, seconds):
        if workload.images > 1:
            return self.measure([f"p/many{number}" for number in range(workload.images)], workload, seconds)
        return self.measure(["p/hot" if workload.hot else "p/one"], workload, seconds)

    def down(self):
        if os.path.exists(self.dir):
            subprocess.run([self.program, "cluster", "down", self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            end_processes(self.dir)
            shutil.rmtree(self.dir, ignore_errors=True)
