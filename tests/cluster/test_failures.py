# SPDX-License-Identifier: Apache-2.0
"""Daemons die, hang and come back under a client that checks every read (tests/cluster/hammer.c)."""
import os
import random
import signal
import subprocess
import time

from harness import BIN, Failure, expect, in_memory, main, wait_for


def hammered(c, action, seconds=2.0, **options):
    """Runs the hammer, `action` in the middle of it and for so many seconds after it, and checks all blocks."""
    child = c.hammer("run", background=True, time=120, blocks=2048, **options)
    time.sleep(1.0)
    action()
    time.sleep(seconds)
    result = c.hammer_result(child, end=True)
    expect(result["writes"] > 100, f"hardly anything was written: {result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    return result


def follow(c):
    """osd.1 leads nothing from now on."""
    c.fb("osd", "demote", "osd.1")
    wait_for("osd.1 to hand over", lambda: 1 not in c.leaders().values())


def test_killed_follower_is_not_noticed(c):
    c.pool_image()
    follow(c)
    result = hammered(c, lambda: c.kill("osd.1"), 3)
    expect(result["errors"] == 0, f"errors: {result}")
    expect(result["max_gap_ms"] < 250, f"gap: {result}")


def test_paused_follower_is_not_noticed(c):
    c.pool_image()
    follow(c)
    result = hammered(c, lambda: c.kill("osd.1", sig=signal.SIGSTOP), 4)
    expect(result["errors"] == 0 and result["max_gap_ms"] < 250, f"gap: {result}")
    c.kill("osd.1", sig=signal.SIGCONT)
    c.wait_active()


def test_killed_leader_is_replaced(c):
    c.pool_image()
    result = hammered(c, lambda: c.kill("osd.0"), 3)
    expect(result["errors"] == 0, f"errors: {result}")
    expect(result["max_gap_ms"] < 500, f"gap: {result}")
    c.start_process("osd.0")
    c.wait_active()
    expect(c.hammer("check")["wrong"] == 0, "after the return")


def test_leaders_come_back(c):
    """After a failure leaderships are spread evenly again, and a client hardly notices."""
    c.pool_image()

    def spread():
        return sorted(list(c.leaders().values()).count(osd) for osd in range(3))
    wait_for("an even start", lambda: spread() == [5, 5, 6], 30)
    before = c.leaders()

    def action():
        c.kill("osd.0")
        wait_for("others to lead", lambda: 0 not in c.leaders().values(), 10)
        c.start_process("osd.0")
        c.wait_active()
        wait_for("the leaders to be back", lambda: c.leaders() == before, 30)
    result = hammered(c, action, 1)
    expect(result["errors"] == 0 and result["max_gap_ms"] < 500, f"gap: {result}")


def test_paused_osd_with_leaders(c):
    c.pool_image()
    result = hammered(c, lambda: c.kill("osd.2", sig=signal.SIGSTOP), 5)
    expect(result["errors"] == 0 and result["max_gap_ms"] < 2500, f"gap: {result}")
    c.kill("osd.2", sig=signal.SIGCONT)
    c.wait_active()
    expect(c.hammer("check")["wrong"] == 0, "after the return")


def test_all_killed_at_once_loses_nothing(c):
    c.pool_image()

    def action():
        c.kill("mon", "osd.0", "osd.1", "osd.2")
        c.fb("cluster", "up", c.dir)
        c.wait_active()
    for _ in range(2):
        result = hammered(c, action)
        expect(result["errors"] == 0, f"errors: {result}")


def test_monitor_away(c):
    """An OSD comes back with its last map, at the address that the others and the clients know."""
    c.pool_image()

    def action():
        c.kill("mon")
        c.kill("osd.0")
        time.sleep(1)
        c.start_process("osd.0")
        c.kill("osd.1")  # without osd.0 there is no quorum, and nobody can tell where it is
        time.sleep(6)
        c.start_process("mon")  # for the check
    result = hammered(c, action)
    expect(result["errors"] == 0, f"errors: {result}")
    expect(result["max_gap_ms"] < 4500, f"nothing was served while the monitor was away: {result}")
    c.start_process("osd.1")
    c.wait_active()


def test_replica_behind_the_ring_recovers(c):
    """osd.2 misses more than its log ring holds (64 MiB for a 1 GiB slice) and is copied object by object."""
    c.pool_image()
    c.fb("image", "create", "p/other", "--size", "256M")  # the hammer knows what is in its own
    c.kill("osd.2")
    c.fb("bench", "p/other", "--rw", "write", "--bs", "1M", "--qd", "8", "--time", "6")
    c.hammer("run", time=2, blocks=4096)
    c.start_process("osd.2")
    c.wait_active(timeout=120)
    # Now only osd.2 has company of one: what it says counts.
    c.kill("osd.0")
    expect(c.hammer("check")["wrong"] == 0, "check with osd.2 as half of the majority")
    c.start_process("osd.0")
    c.wait_active()
    for osd in range(3):
        c.fb("cluster", "stop", c.dir, f"osd.{osd}")
        out = c.fb("store", "check", os.path.join(c.dir, f"osd.{osd}", "device"), "--deep")
        expect("0 problems" in out, out)


def test_two_shards_per_osd_random_murder(c):
    c.pool_image(pgs=32)
    seed = random.randrange(1 << 30)
    print(f"# seed {seed}")
    chance = random.Random(seed)

    def action():
        for _ in range(5):
            victim = f"osd.{chance.randrange(3)}"
            if chance.random() < 0.3:
                c.kill(victim, sig=signal.SIGSTOP)
                time.sleep(chance.random() * 2)
                c.kill(victim, sig=signal.SIGCONT)
            else:
                c.kill(victim)
                time.sleep(chance.random())
                c.start_process(victim)
            time.sleep(chance.random())
    result = hammered(c, action)
    expect(result["errors"] == 0, f"errors: {result}")


def test_full_devices_do_not_wedge(c):
    """Writes beyond the space end with ENOSPC, reads go on, and removing an image makes room again."""
    c.pool_image(size="4G")
    c.fb("bench", "p/i", "--rw", "write", "--bs", "1M", "--qd", "8", "--time", "60", code=1, timeout=200)
    expect("space" in c.stderr, f"bench on a full cluster: {c.stderr!r}")
    c.json("bench", "p/i", "--rw", "randread", "--time", "1")
    c.fb("image", "rm", "p/i")
    wait_for("the space to be freed", lambda: all(o["used_bytes"] < o["size_bytes"] // 2 for o in c.json("osd", "ls")), 60)
    c.fb("image", "create", "p/i", "--size", "64M")
    result = c.hammer("run", time=2, blocks=512)
    expect(result["errors"] == 0 and result["writes"] > 100, f"after making room: {result}")


def test_unequal_devices_get_whole(c):
    """Two of three devices are full while the third has room, and more is under way than leaders leave alone: entries that find no
    room hold nobody up, and all replicas get whole, also those that were full."""
    osd = os.path.join(BIN, "fastblock-osd")
    for n in (3, 4):
        device = os.path.join(c.root, f"small{n}")
        c.run(osd, "format", device, "--size", "512M")
        c.start(osd, "run", device, "--cache", "64M", stderr=subprocess.DEVNULL)
        c.fb("osd", "out", f"osd.{n - 2}")
    wait_for("the OSDs", lambda: c.json("status")["osds_up"] == 5)
    c.fb("pool", "create", "p", "--pgs", "32", "--replicas", "3")
    images = [f"p/i{n}" for n in range(4)]
    for image in images:
        c.fb("image", "create", image, "--size", "16G")
    for _ in range(2):
        benches = [c.start(os.path.join(BIN, "fastblock"), "bench", image, "--rw", "randwrite", "--qd", "512", "--time", "10",
                           stderr=subprocess.DEVNULL) for image in images]
        expect([bench.wait(60) for bench in benches] == [1] * 4, "the devices are not full")
    for image in images:
        c.json("bench", image, "--rw", "randread", "--time", "1")
        c.fb("image", "rm", image, timeout=60)
    wait_for("the space to be freed", lambda: all(o["used_bytes"] < o["size_bytes"] // 4 for o in c.json("osd", "ls")), 60)
    wait_for("all replicas to be whole", lambda: "0 degraded" in c.fb("status") and "health   ok" in c.fb("status"), 60)
    c.fb("image", "create", "p/i", "--size", "64M")
    result = c.hammer("run", time=2, blocks=512)
    expect(result["errors"] == 0 and result["writes"] > 100, f"after making room: {result}")


if __name__ == "__main__":
    main(globals(), base=in_memory())
