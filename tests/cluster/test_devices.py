# SPDX-License-Identifier: Apache-2.0
"""Devices that fail under OSDs that live (fastblock-osd --faults), with a client that checks every read (tests/cluster/hammer.c). Needs root."""
import os
import signal
import subprocess
import time

from harness import BIN, expect, main, wait_for
from hosted import HostedCluster

CACHE_BYTES, ARENA_EXTRA = 16 << 20, 128 << 20
CHUNKS = "176M 1M"  # of a device of 1 GiB: behind the log ring, and full of chunks once the image has been written to


class DeviceCluster(HostedCluster):
    """Little cache, so that reads come from devices; memory files."""

    def __init__(self, **options):
        super().__init__(osd_options=("--cache", str(CACHE_BYTES)), base="/dev/shm", **options)

    def under_load(self, action, seconds=2.0, **options):
        """Runs the hammer on all of a small image, `action` in its midst and for so many seconds after it, and checks all blocks."""
        child = self.hammer("run", background=True, time=120, blocks=16384, **options)
        time.sleep(1.0)
        action()
        time.sleep(seconds)
        result = self.hammer_result(child, end=True)
        print(f"# {result}")
        expect(result["errors"] == 0 and result["writes"] > 100, f"under load: {result}")
        self.check()
        return result

    def check(self):
        checked = self.hammer("check")
        expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")

    def problem(self, osd):
        """What the monitor knows of the OSD's device."""
        return next(o["problem"] for o in self.json("osd", "ls") if f"osd.{o['id']}" == osd)

    def led_by(self, osd):
        return list(self.leaders().values()).count(int(osd[-1]))

    def again(self, osd):
        """A new process on the same device, which is in order again."""
        self.write_faults(osd, "")
        self.kill(osd)
        self.start_process(osd)
        self.wait_active()


def out_of_service(c, rules):
    """The shard leaves by itself, says why, and clients hardly notice; on a sound device it comes back with what it has."""
    c.pool_image(size="64M")

    def action():
        c.faults("osd.1", rules)
        wait_for("the monitor to know", lambda: c.problem("osd.1"))
    result = c.under_load(action)
    expect(result["max_gap_ms"] < 1000, f"gap: {result}")
    expect("takes itself out of service" in c.log("osd.1"), "it says nothing")
    expect("osd.1" in c.fb("status", code=None) and c.led_by("osd.1") == 0, "status")
    c.again("osd.1")
    c.kill("osd.0")  # now what osd.1 has counts
    c.check()


def test_write_error(c):
    out_of_service(c, "write error\n")


def test_failed_flush(c):
    out_of_service(c, "flush error\n")


def test_read_only(c):
    out_of_service(c, "write read-only\n")


def test_start_on_a_read_only_device(c):
    c.pool_image(size="64M")
    c.kill("osd.1")
    c.daemons["osd.1"].wait()
    device = os.path.join(c.dir, "osd.1.device")
    loop = subprocess.run(["losetup", "--find", "--show", "--read-only", device], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    try:
        c.run(os.path.join(BIN, "fastblock-osd"), "run", loop, "--mon", c.env["FASTBLOCK_MON"], "--listen", "127.0.0.1", code=1, timeout=20)
        expect(loop in c.stderr and "read-only" in c.stderr.lower(), f"what it says: {c.stderr!r}")
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)
    c.start_process("osd.1")
    c.wait_active()


def fill(c):
    """More than memory holds, and written back: what is read comes from devices."""
    c.pool_image(size="64M")
    writes = 0
    while writes < 16384:
        writes += c.hammer("run", time=2, blocks=16384, reads=0, qd=64)["writes"]
    for osd in ("osd.0", "osd.1", "osd.2"):
        c.kill(osd)
        c.start_process(osd)
        c.wait_active()


def repairs(c, rules):
    """What osd.1 cannot read is fetched from the others, written again, and counted; the client sees nothing of it."""
    fill(c)

    def leads():
        for pg, leader in c.leaders().items():
            if leader != 1:
                c.fb("pg", "leader", pg, "osd.1", code=None)  # perhaps not yet
        return c.led_by("osd.1") == 16
    wait_for("osd.1 to lead", leads, pause=0.3)
    c.faults("osd.1", rules)
    c.check()
    c.faults("osd.1", "")

    def counted():
        return [line for line in c.fb("status", code=None).split("\n") if "osd.1:" in line and "restored from other replicas" in line]
    print(f"# {wait_for('repairs to be counted', counted)}")
    c.check()


def test_unreadable_blocks(c):
    repairs(c, f"read error {CHUNKS}\n")


def test_bit_rot(c):
    repairs(c, f"read flip {CHUNKS}\n")


def test_nothing_can_be_read(c):
    """Nor does the device give back what a repair wrote: all data comes from the others."""
    repairs(c, "read error\n")


def test_all_rots(c):
    repairs(c, "read flip\n")


def test_slow_device_of_a_follower(c):
    c.pool_image(size="64M")
    c.fb("osd", "demote", "osd.1")
    wait_for("osd.1 to hand over", lambda: c.led_by("osd.1") == 0)
    result = c.under_load(lambda: c.faults("osd.1", "any delay 10\n"), 3)
    expect(result["max_gap_ms"] < 250, f"gap: {result}")
    c.faults("osd.1", "")
    c.wait_active()


def test_slow_device_of_a_leader(c):
    """So slow that the others' acknowledgements are ten times quicker even while this machine is busy with other things."""
    c.pool_image(size="64M")
    expect(c.led_by("osd.1") > 0, "it leads nothing")

    def action():
        c.faults("osd.1", "any delay 100\n")
        wait_for("osd.1 to hand over", lambda: c.led_by("osd.1") == 0, 12)
    c.under_load(action, 12, qd=16)  # goes on for longer than it takes until leaders are brought back
    expect(c.led_by("osd.1") == 0, "it leads again")


def test_stuck_device(c):
    c.pool_image(size="64M")
    result = c.under_load(lambda: c.faults("osd.1", "any stuck\n"), 4)
    expect(result["max_gap_ms"] < 2000, f"gap: {result}")
    c.faults("osd.1", "")
    c.wait_active()
    c.kill("osd.0")
    c.check()


def test_memory_while_a_follower_is_away(c):
    """What the leaders keep for it is bounded, however long it is away."""
    c.pool_image()

    def rss_bytes(osd):
        with open(f"/proc/{c.pid(osd)}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    c.kill("osd.1", sig=signal.SIGSTOP)
    child = c.start(*c.network.exec("client", os.path.join(BIN, "fastblock"), "bench", "p/i", "--rw", "randwrite", "--qd", "32", "--time", "30"),
                    stdout=subprocess.DEVNULL)
    seen = {"osd.0": [], "osd.2": []}
    while child.poll() is None:
        for osd, samples in seen.items():
            samples.append(rss_bytes(osd))
        time.sleep(0.25)
    expect(child.returncode == 0, "the load failed")
    for osd, samples in seen.items():
        early, late = max(samples[:60]), max(samples[60:])
        print(f"# {osd}: {early >> 20} MiB in the first half, {late >> 20} MiB in the second")
        expect(late < CACHE_BYTES + ARENA_EXTRA + (160 << 20), f"{osd} has {late >> 20} MiB")
        expect(late < early + (32 << 20), f"{osd} grows: {early >> 20}, {late >> 20} MiB")
    c.kill("osd.1", sig=signal.SIGCONT)
    c.wait_active(timeout=120)


if __name__ == "__main__":
    main(globals(), cluster=DeviceCluster)
