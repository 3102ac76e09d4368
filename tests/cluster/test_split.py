# SPDX-License-Identifier: Apache-2.0
"""A pool gets more PGs under clients that check every read (hammer.c), while OSDs are killed."""
import random
import time

from harness import Cluster, expect, main, wait_for


def count(c):
    return next(p for p in c.json("pool", "ls") if p["name"] == "p")["pgs"]


def raise_to(c, pgs, timeout=90):
    c.fb("pool", "set", "p", "--pgs", str(pgs))
    wait_for(f"{pgs} PGs", lambda: count(c) == pgs, timeout, 0.1)


def whole(c):
    status = c.json("status")
    moves = status["moves"]
    return not (moves["under_way"] or moves["urgent"] or moves["misplaced"]) and status["pgs_degraded"] == 0 \
        and status["pgs_active"] == status["pgs"]


def check(c, child):
    result = c.hammer_result(child, end=True)
    expect(result["errors"] == 0, f"{result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    return result


def test_split_under_load(c):
    """8 PGs become 64 in two steps; no request fails, and none waits for long."""
    c.pool_image(size="64M", pgs=8)
    child = c.hammer("run", background=True, time=300, blocks=8192)
    time.sleep(1)
    raise_to(c, 16)
    raise_to(c, 64)
    wait_for("all to be whole", lambda: whole(c), 60, 0.2)
    result = check(c, child)
    print(f"# the longest wait: {result['max_gap_ms']} ms")
    expect(result["max_gap_ms"] < 2000, f"{result}")
    c.fb("pool", "set", "p", "--pgs", "32", code=1)
    expect("not merged" in c.stderr, c.stderr)


def test_killed_meanwhile(c):
    """OSDs are killed, one at a time, while PGs are split: that waits for them, and is done in the end."""
    c.pool_image(size="64M", pgs=8)
    child = c.hammer("run", background=True, time=300, blocks=8192)
    c.fb("pool", "set", "p", "--pgs", "40")
    rng = random.Random(7)
    for _ in range(5):
        osd = f"osd.{rng.randrange(3)}"
        time.sleep(rng.random())
        c.kill(osd)
        time.sleep(rng.random())
        c.start_process(osd)
        c.wait_active(degraded=True)
    wait_for("40 PGs", lambda: count(c) == 40, 90, 0.1)
    wait_for("all to be whole", lambda: whole(c), 60, 0.2)
    check(c, child)


if __name__ == "__main__":
    main(globals(), cluster=Cluster, osds=3)
