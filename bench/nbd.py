# SPDX-License-Identifier: Apache-2.0
"""fastblock through fastblock-nbd and fio as a side of bench/compare, as a virtual machine would use it."""
import os
import subprocess

from fastblock import BUILD
from measure import fio, wait_for


class Nbd:
    name, up_seconds = "nbd", 0

    def __init__(self, fastblock):
        self.fastblock, self.server = fastblock, None
        self.socket = os.path.join(os.path.dirname(fastblock.dir), "nbd.sock")

    @staticmethod
    def memory_bytes(image_bytes):
        return 0

    @staticmethod
    def missing():
        return None

    @staticmethod
    def takes(workload):
        return workload.images == 1 and not workload.hot

    def up(self):
        pass

    def run(self, workload, seconds):
        command = [os.path.join(BUILD, "src/cmd/fastblock-nbd"), "p/one", "--unix", self.socket]
        self.server = subprocess.Popen(command, env=self.fastblock.env, stdout=subprocess.DEVNULL)
        try:
            wait_for("fastblock-nbd", lambda: os.path.exists(self.socket), 10)
            return fio([["--ioengine=nbd", f"--uri=nbd+unix:///?socket={self.socket}"]], workload, seconds,
                       self.fastblock.pids() + [self.server.pid])
        finally:
            self.down()

    def down(self):
        if self.server:
            self.server.terminate()
            self.server.wait()
            self.server = None
