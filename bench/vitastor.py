# SPDX-License-Identifier: Apache-2.0
"""A Vitastor cluster on this machine as a side of bench/compare: etcd, its monitor, three OSDs on files, images driven by its fio engine.

Its programs are not part of fastblock: vitastor-osd, vitastor-disk, vitastor-cli, libfio_vitastor.so (beside them) and mon/mon-main.js (or where its
packages put it) are looked for in the directory $VITASTOR_BIN, then in PATH. The settings favour it: the newest store format, no flushes and
immediate commit (the devices are memory), large atomic writes (memory tears nothing that a power cut would not take whole), TCP. Its documents
leave checksums off by default, and recommend blocks of 4 KiB for them: side `vitastor` is without, `vitastor-csum` with."""
import json
import os
import shutil
import subprocess

from measure import IMAGES, Failure, end_processes, fio, free_port, run, wait_for

PROGRAMS = ["vitastor-osd", "vitastor-disk", "vitastor-cli"]
OSDS = 3
PGS = 64
OVERHEAD = 512 << 20  # of a device: metadata, journal, what is not yet compacted
OSD_MEMORY = 256 << 20


def find(name):
    """A program or file of Vitastor, or None."""
    for directory in [os.environ.get("VITASTOR_BIN", "")] + os.environ.get("PATH", "").split(":") + ["/usr/lib/vitastor", "/usr/lib/x86_64-linux-gnu"]:
        path = os.path.join(directory, name)
        if directory and os.path.exists(path):
            return path
    return None


class Vitastor:
    name, up_seconds = "vitastor", 20
    checksums = []

    def __init__(self, directory, image_bytes, spin):
        self.dir, self.image_bytes = directory, image_bytes
        self.env = dict(os.environ, FB_BENCH_DIR=directory + "/")  # the names of both sides begin alike
        self.etcd, self.children = None, []

    @staticmethod
    def memory_bytes(image_bytes):
        return OSDS * (2 * image_bytes + OVERHEAD + OSD_MEMORY)

    @staticmethod
    def missing():
        names = [name for name in PROGRAMS + ["libfio_vitastor.so", "mon/mon-main.js"] if not find(name)]
        names += [name for name in ("etcd", "node", "fio") if not shutil.which(name)]
        return f"{', '.join(names)}; set VITASTOR_BIN to a directory that has Vitastor's" if names else None

    @staticmethod
    def takes(workload):
        return not workload.hot  # as for Ceph

    def daemon(self, name, *command):
        with open(os.path.join(self.dir, name + ".log"), "w") as log:
            self.children.append(subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

    def call(self, *args):
        return run([find("vitastor-cli"), "--etcd_address", self.etcd, "--json", *args], self.env, 60)

    def ask(self, *args):
        """A command's answer, or nothing while it fails."""
        try:
            return json.loads(self.call(*args))
        except (Failure, ValueError):
            return None

    def start_osd(self, number):
        device = os.path.join(self.dir, f"osd{number}")
        with open(device, "w") as f:
            f.truncate(2 * self.image_bytes + OVERHEAD)
        options = run([find("vitastor-disk"), "simple-offsets", "--format", "options", *self.checksums, device], self.env).split()
        self.daemon(f"osd.{number}", find("vitastor-osd"), "--etcd_address", self.etcd, "--osd_num", str(number), "--bind_address", "127.0.0.1",
                    "--disable_data_fsync", "1", "--immediate_commit", "all", "--use_rdma", "0", "--atomic_write_size", "131072", *options)

    def active(self):
        pgs = self.ask("ls-pgs") or []
        return len(pgs) == PGS and all(pg["state"] == ["active"] for pg in pgs)

    def up(self):
        os.makedirs(self.dir)
        client, peer = free_port(), free_port()
        self.etcd = f"127.0.0.1:{client}"
        url, peer_url = f"http://{self.etcd}", f"http://127.0.0.1:{peer}"
        self.daemon("etcd", "etcd", "--name", "a", "--data-dir", os.path.join(self.dir, "etcd"), "--listen-client-urls", url, "--advertise-client-urls", url,
                    "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"a={peer_url}")
        self.daemon("mon", "node", find("mon/mon-main.js"), "--etcd_address", self.etcd)
        for number in range(1, OSDS + 1):
            self.start_osd(number)
        wait_for(f"{self.name}: the OSDs", lambda: sum(row.get("up") == "up" for row in self.ask("ls-osd") or []) == OSDS)
        self.call("create-pool", "bench", "--pg_size", str(OSDS), "--pg_minsize", str(OSDS - 1), "--pg_count", str(PGS), "--failure_domain", "osd",
                  "--immediate_commit", "all")
        wait_for(f"{self.name}: the placement groups", self.active)
        for name, size in [("one", self.image_bytes)] + [(f"many{number}", self.image_bytes // IMAGES) for number in range(IMAGES)]:
            self.call("create", "--pool", "bench", "-s", f"{size >> 20}M", name)
            # Whole images: no run allocates.
            run(["fio", "--name=fill", "--rw=write", "--bs=1m", "--iodepth=8", "--thread"] + self.job(name), self.env)

    def job(self, image):
        return [f"--ioengine=external:{find('libfio_vitastor.so')}", f"--etcd={self.etcd}", f"--image={image}"]

    def run(self, workload, seconds):
        for child in self.children:
            if child.poll() is not None:
                raise Failure(f"{child.args[0]} has ended; see {self.dir}")
        jobs = [self.job("one")] if workload.images == 1 else [self.job(f"many{number}") for number in range(workload.images)]
        return fio(jobs, workload, seconds, [child.pid for child in self.children], self.env)

    def down(self):
        """Ends every daemon and removes the directory; whatever state it is in."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        self.children = []
        end_processes(self.dir + "/")
        shutil.rmtree(self.dir, ignore_errors=True)


class VitastorCsum(Vitastor):
    name = "vitastor-csum"
    checksums = ["--data_csum_type", "crc32c", "--csum_block_size", "4096"]
