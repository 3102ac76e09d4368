# SPDX-License-Identifier: Apache-2.0
"""The floor as a side of bench/compare: bench/floor.c, the same traffic with no protocol."""
import json
import os
import shutil

from fastblock import BUILD
from measure import FIGURES, in_memory, run


class Floor:
    name, up_seconds = "floor", 0

    def __init__(self, directory, image_bytes, spin):
        self.dir, self.spin = directory, spin

    @staticmethod
    def memory_bytes(image_bytes):
        return 1 << 30

    @staticmethod
    def missing():
        path = os.path.join(BUILD, "bench/floor")
        return None if os.path.exists(path) else f"{path}: meson setup build -Dbuildtype=release && ninja -C build"

    @staticmethod
    def takes(workload):
        return workload.images == 1 and workload.rw != "randrw"

    def up(self):
        os.makedirs(self.dir)

    def run(self, workload, seconds):
        command = [os.path.join(BUILD, "bench/floor"), "--qd", str(workload.depth), "--size", str(workload.block_bytes), "--time", str(seconds),
                   "--dir", self.dir, "--spin", str(self.spin)]
        command += ["--log", "inline"] if in_memory(self.dir) else ["--log", "uring", "--dsync"]
        command += ["--read"] if "read" in workload.rw else []
        out = json.loads(run(command, limit=seconds + 60))
        return {**{key: out[key] for key in FIGURES if key != "cpu"}, "cpu": out["cpu_total"]}

    def down(self):
        shutil.rmtree(self.dir, ignore_errors=True)
