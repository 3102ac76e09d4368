#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A file system on an image over NBD, written and verified by fio, while daemons are killed and paused at random.

    tests/cluster/torture.py --minutes 60 [--fs ext4|xfs] [--seed N] [--rate MiB/s]

Each round writes a file anew in random order, syncs, drops the page cache and verifies it: fio's headers carry the round, so a block of an
earlier round that comes back is noticed like a wrong one. Meanwhile, every few seconds, one of these happens to OSDs and the monitor: one is
killed; one is paused for up to ten seconds; two OSDs, or all daemons, are killed at the same moment. What was killed is started again within
five seconds. fastblock-nbd is left alone: a block device whose server dies is an I/O error for any file system. At the end: the file system's
check, fio's verification once more on a fresh mount, and all placement groups clean.

Prints one line of JSON; exit code 0: nothing was lost or wrong. Needs root, /dev/fuse, loop devices and fio."""
import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from signal import SIGCONT, SIGKILL, SIGSTOP

from harness import Cluster, Failure, expect
from test_filesystems import attach, detach

CHECK = {"ext4": ("e2fsck", "-fn"), "xfs": ("xfs_repair", "-n")}
OSDS = ["osd.0", "osd.1", "osd.2"]


class Tormentor(threading.Thread):
    """Kills and pauses until `ended`, then puts everything back."""

    def __init__(self, cluster, rng):
        super().__init__()
        self.cluster, self.rng, self.ended = cluster, rng, threading.Event()
        self.counts = {"killed": 0, "paused": 0, "two_killed": 0, "all_killed": 0}
        self.error = None

    def run(self):
        try:
            while not self.ended.wait(self.rng.uniform(1, 8)):
                self.strike()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def strike(self):
        kind = self.rng.choices(["killed", "paused", "two_killed", "all_killed"], [5, 3, 2, 1])[0]
        self.counts[kind] += 1
        everyone = OSDS + ["mon"]
        if kind == "paused":
            victim = self.rng.choice(everyone)
            self.cluster.kill(victim, sig=SIGSTOP)
            self.ended.wait(self.rng.uniform(0.1, 10))
            self.cluster.kill(victim, sig=SIGCONT)
            return
        victims = {"killed": [self.rng.choice(everyone)], "two_killed": self.rng.sample(OSDS, 2), "all_killed": everyone}[kind]
        self.cluster.kill(*victims, sig=SIGKILL)
        for victim in self.rng.sample(victims, len(victims)):
            self.ended.wait(self.rng.uniform(0, 5 / len(victims)))
            self.cluster.start_process(victim)


def fio(cluster, path, number, rate, verify_only=False):
    """Writes all of the file and verifies it. The seed is the round: of an earlier one nothing is accepted."""
    cluster.run("fio", "--name=torture", f"--filename={path}", "--size=192m", "--rw=randwrite", "--bsrange=4k-64k", "--ioengine=libaio", "--iodepth=16",
                "--direct=1", f"--rate={rate}m", f"--randseed={number}", "--verify=crc32c", "--verify_fatal=1", "--verify_dump=0", "--fsync=64",
                "--fallocate=none", f"--aux-path={cluster.root}", "--output-format=json", *(["--verify_only"] if verify_only else ["--do_verify=1"]), timeout=600)


def torture(cluster, args, rng):
    cluster.pool_image(size="512M")
    server, uri = cluster.nbd()
    device = attach(cluster, uri)
    mount = os.path.join(cluster.root, "mnt")
    os.mkdir(mount)
    tormentor, rounds, end = Tormentor(cluster, rng), 0, time.monotonic() + args.minutes * 60
    try:
        cluster.run(f"mkfs.{args.fs}", "-q", device)
        cluster.run("mount", device, mount)
        tormentor.start()
        while time.monotonic() < end and not tormentor.error:
            rounds += 1
            fio(cluster, os.path.join(mount, "file"), rounds, args.rate)
            print(f"[{end - time.monotonic():5.0f} s left] {rounds} rounds verified, {tormentor.counts}", file=sys.stderr, flush=True)
        tormentor.ended.set()
        tormentor.join()
        if tormentor.error:
            raise Failure(f"the tormentor: {tormentor.error}")
        cluster.run("umount", mount)
        cluster.run(*CHECK[args.fs], device)
        cluster.run("mount", device, mount)
        fio(cluster, os.path.join(mount, "file"), rounds, args.rate, verify_only=True)
        cluster.run("umount", mount)
        cluster.wait_active(timeout=120)
    finally:
        tormentor.ended.set()
        if tormentor.is_alive():
            tormentor.join()
        subprocess.run(["umount", mount], check=False, stderr=subprocess.DEVNULL)
        detach(cluster, device)
    server.terminate()
    expect(server.wait(30) == 0, f"fastblock-nbd: exit code {server.returncode}")
    return rounds, tormentor.counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="how long (default 60)")
    parser.add_argument("--fs", choices=sorted(CHECK), default="ext4", help="file system (default ext4)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="of the choice of faults; their moments are the machine's")
    parser.add_argument("--rate", type=int, default=16, help="MiB/s that fio writes (default 16)")
    args = parser.parse_args()
    cluster = Cluster(size="2G")
    try:
        rounds, counts = torture(cluster, args, random.Random(args.seed))
        print(json.dumps({"fs": args.fs, "minutes": args.minutes, "seed": args.seed, "rounds": rounds, **counts, "wrong": 0}))
    except (Failure, subprocess.TimeoutExpired) as error:
        cluster.logs()
        print(json.dumps({"fs": args.fs, "seed": args.seed, "failure": str(error)}))
        sys.exit(1)
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
