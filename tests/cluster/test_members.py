# SPDX-License-Identifier: Apache-2.0
"""OSDs come, go, are drained and replaced, under clients that check every read (hammer.c) or whose history is judged (history.c)."""
import json
import os
import random
import subprocess
import time

from harness import HISTORY, Cluster, expect, main, wait_for

OUT_AFTER = 5
OBJECT = 2 << 20


def members(c):
    return {pg["pg"]: pg["members"] for pg in c.json("pg", "ls")}


def replicas(c, osd):
    return sum(osd in pg for pg in members(c).values())


def settled(c):
    """Nothing moves, and all PGs are whole."""
    status = c.json("status")
    moves = status["moves"]
    return not (moves["under_way"] or moves["urgent"] or moves["misplaced"]) and status["pgs_degraded"] == 0 \
        and status["pgs_active"] == status["pgs"] and all(not pg["wanted"] for pg in c.json("pg", "ls"))


def wait_settled(c, what, timeout=60):
    wait_for(what, lambda: settled(c), timeout, 0.2)


def counter(c, osd, name):
    """Over the shards of the OSD."""
    return sum(value for shard in c.json("perf", f"osd.{osd}") for key, value in shard["counters"].items() if key.endswith(name))


def received(c):
    """Blocks that recoveries have received, by OSD that is up."""
    total = {}
    for osd in c.json("osd", "ls"):
        if osd["up"]:
            total[osd["id"]] = counter(c, osd["id"], "recover_received")
    return total


def moved_bytes(before, after):
    return 4096 * sum(value - before.get(osd, 0) for osd, value in after.items())


def of_osd(c, osd):
    return [pg["pg"] for pg in c.json("pg", "ls") if osd in pg["members"]]


def data_of(c, pgs):
    """The bytes of the PGs' objects, as full ones; asked for afterwards, because clients go on making objects."""
    return sum(pg["objects"] for pg in c.json("pg", "ls") if pg["pg"] in pgs) * OBJECT


def filled(c):
    """A pool with an image for the hammer, and one that is written all over."""
    c.pool_image(size="16M", pgs=16)
    c.fb("image", "create", "p/full", "--size", "128M")
    c.fb("bench", "p/full", "--rw", "write", "--bs", "1M", "--qd", "8", "--time", "2")
    wait_for("the monitor to decide", lambda: c.json("status")["health"] == "ok", 20)


def history(c, seconds):
    c.fb("image", "create", "p/h", "--size", "64M")
    return c.start(HISTORY, "p/h", f"time={seconds}", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def history_result(child):
    out, err = child.communicate(timeout=180)
    expect(child.returncode == 0, f"history: exit code {child.returncode}: {out}{err}")
    return json.loads(out)


def test_lost_for_good(c):
    """One OSD is killed and never comes back: it goes out, its PGs are healed, it is removed. No client notices."""
    filled(c)
    child = c.hammer("run", background=True, time=300, blocks=2048)
    lost = replicas(c, 4)
    expect(lost > 0, "osd.4 has replicas")
    pgs, before = of_osd(c, 4), received(c)
    c.kill("osd.4")
    wait_for("osd.4 to be out", lambda: not next(o for o in c.json("osd", "ls") if o["id"] == 4)["in"], 30)
    wait_for("its PGs to be healed", lambda: replicas(c, 4) == 0, 60, 0.2)
    wait_settled(c, "all to be whole")
    moved, data = moved_bytes(before, received(c)), data_of(c, pgs)
    print(f"# {lost} replicas, {data} bytes of full objects; {moved} bytes came")
    expect(moved <= 1.2 * data, f"{moved} bytes were copied, {data} would do")
    c.fb("osd", "remove", "osd.4")
    result = c.hammer_result(child, end=True)
    expect(result["errors"] == 0 and result["max_gap_ms"] < 1000, f"{result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    # Its device never comes back under that id.
    c.fb("cluster", "start", c.dir, "osd.4", code=1)
    expect("was removed" in c.stderr, c.stderr)
    expect(replicas(c, 4) == 0, "it has nothing")
    wait_settled(c, "all to be whole still")  # leaderships may be on their way home


def test_drained_and_removed(c):
    """Two OSDs are drained one after the other, stopped and removed, while a history is made."""
    filled(c)
    child = history(c, 20)
    for osd in (4, 0):
        pgs, before = of_osd(c, osd), received(c)
        c.fb("osd", "remove", f"osd.{osd}", code=1)
        expect("fastblock osd drain" in c.stderr, c.stderr)
        c.fb("osd", "drain", f"osd.{osd}")
        moved, data = moved_bytes(before, received(c)), data_of(c, pgs)
        print(f"# osd.{osd}: {data} bytes of full objects; {moved} bytes came")
        expect(moved <= 1.2 * data, f"{moved} bytes were copied, {data} would do")
        # What it had is deleted there, by order.
        wait_for("its replicas to be deleted", lambda: c.json("osd", "ls")[osd]["used_bytes"] < 16 << 20, 30)
        c.fb("cluster", "stop", c.dir, f"osd.{osd}")
        wait_for("it to be down", lambda: not next(o for o in c.json("osd", "ls") if o["id"] == osd)["up"], 30)
        c.fb("osd", "remove", f"osd.{osd}")
    expect(sorted({o for pg in members(c).values() for o in pg}) == [1, 2, 3], f"{members(c)}")
    result = history_result(child)
    expect(result["errors"] == 0, f"{result}")


def test_added(c):
    """OSDs are added: they get their share, no more is moved than that, and leaders are even."""
    filled(c)
    c.fb("cluster", "set", "norebalance")
    child = c.hammer("run", background=True, time=300, blocks=2048)
    c.fb("cluster", "up", c.dir, "--osds", "7")
    time.sleep(3)
    expect(replicas(c, 5) == 0 and replicas(c, 6) == 0, "nothing moves with norebalance")
    before = received(c)
    c.fb("cluster", "unset", "norebalance")
    plan = c.json("rebalance", "plan")
    copies = sum(move["copies"] for move in plan)
    wait_for("something to move", lambda: replicas(c, 5) > 0, 30)
    wait_settled(c, "all to be spread")
    counts = [replicas(c, osd) for osd in range(7)]
    moved = moved_bytes(before, received(c))
    objects = sum(pg["objects"] for pg in c.json("pg", "ls"))
    print(f"# replicas by OSD {counts}; {copies} copies planned, {moved} bytes came")
    expect(max(counts) - min(counts) <= 1, f"{counts}")
    share = 3 * objects * OBJECT * 2 / 7
    expect(moved <= 1.2 * share, f"{moved} bytes were copied, {share} would do")
    result = c.hammer_result(child, end=True)
    expect(result["errors"] == 0 and result["max_gap_ms"] < 1000, f"{result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")


def test_replicas(c):
    """A pool gets five replicas and goes back to three."""
    filled(c)
    child = c.hammer("run", background=True, time=300, blocks=2048)
    c.fb("pool", "set", "p", "--replicas", "5")
    wait_for("five replicas", lambda: all(len(pg) == 5 for pg in members(c).values()) and settled(c), 60, 0.2)
    c.fb("pool", "set", "p", "--replicas", "3")
    wait_for("three replicas", lambda: all(len(pg) == 3 for pg in members(c).values()) and settled(c), 60, 0.2)
    c.fb("pool", "set", "p", "--replicas", "2", code=1)
    expect("--yes-no-failover" in c.stderr, c.stderr)
    result = c.hammer_result(child, end=True)
    expect(result["errors"] == 0 and result["max_gap_ms"] < 1000, f"{result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    # And all devices are in order.
    for osd in range(5):
        c.fb("cluster", "stop", c.dir, f"osd.{osd}")
        out = c.fb("store", "check", os.path.join(c.dir, f"osd.{osd}", "device"), "--deep")
        expect("0 problems" in out, out)


def test_under_fire(c):
    """While an OSD is drained and another one taken in, daemons are killed, the monitor too, one at a time."""
    filled(c)
    seed = random.randrange(1 << 30)
    print(f"# seed {seed}")
    chance = random.Random(seed)
    child = c.hammer("run", background=True, time=300, blocks=2048)
    end = time.monotonic() + 30
    out = 4
    c.fb("osd", "out", f"osd.{out}")
    while time.monotonic() < end:
        victim = chance.choice(["mon", "osd.0", "osd.1", "osd.2", "osd.3", "osd.4"])
        c.kill(victim)
        time.sleep(chance.random())
        c.start_process(victim)
        time.sleep(chance.random() * 2)
        if replicas(c, out) == 0:
            c.fb("osd", "in", f"osd.{out}")
            out = chance.randrange(5)
            c.fb("osd", "out", f"osd.{out}")
    c.fb("osd", "in", f"osd.{out}")

    def even():
        """The monitor needs a moment to see that the last one is in again, and until then has nothing to do."""
        counts = [replicas(c, osd) for osd in range(5)]
        return sum(counts) == 48 and max(counts) - min(counts) <= 1 and settled(c)
    wait_for("all to be whole, and spread", even, 90, 0.2)
    result = c.hammer_result(child, end=True)
    print(f"# {result}")
    expect(result["errors"] == 0, f"{result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    expect(all(not pg["to_be_deleted"] for pg in (c.json("pg", "show", name) for name in members(c))), "nothing is left to be deleted")
    for osd in range(5):
        c.fb("cluster", "stop", c.dir, f"osd.{osd}")
        text = c.fb("store", "check", os.path.join(c.dir, f"osd.{osd}", "device"), "--deep")
        expect("0 problems" in text, text)


def test_paused(c):
    """`cluster set pause` holds clients back, and loses nothing."""
    c.pool_image()
    child = c.hammer("run", background=True, time=8, blocks=512)
    time.sleep(1)
    c.fb("cluster", "set", "pause")
    time.sleep(1)

    def writes():
        return sum(counter(c, osd, ".writes") for osd in range(5))
    before = writes()
    time.sleep(2)
    expect(before > 0 and writes() == before, "writes while the cluster is paused")
    c.fb("cluster", "unset", "pause")
    result = c.hammer_result(child)
    expect(result["errors"] == 0 and result["max_gap_ms"] > 2000, f"{result}")
    expect(c.hammer("check")["wrong"] == 0, "check")


if __name__ == "__main__":
    main(globals(), cluster=Cluster, osds=5, out_after=OUT_AFTER)
