# SPDX-License-Identifier: Apache-2.0
"""A majority of some PGs is destroyed: health says what to do, the operator has the survivor go on, all is healed."""
import json
import os
import signal

from harness import Cluster, expect, main, wait_for


def settled(c):
    status = c.json("status")
    moves = status["moves"]
    return not (moves["under_way"] or moves["urgent"] or moves["misplaced"]) and status["pgs_degraded"] == 0 \
        and status["pgs_active"] == status["pgs"] and all(not pg["wanted"] for pg in c.json("pg", "ls"))


def problem(c, code):
    return next((p for p in c.json("health", "detail")["problems"] if p["code"] == code), None)


def device(c, osd):
    return os.path.join(c.dir, f"osd.{osd}", "device")


def test_two_of_three_destroyed(c):
    c.pool_image(size="32M", pgs=8)
    c.hammer("run", time=4, blocks=512)
    expect(c.hammer("check")["wrong"] == 0, "all is there")
    text = c.fb("pg", "force-recover", "--all-lost")
    expect("every PG has a leader" in text, text)
    kept = {osd: device(c, osd) + ".old" for osd in (1, 2)}
    for osd, copy in kept.items():
        c.kill(f"osd.{osd}")
        c.run("cp", "--sparse=always", device(c, osd), copy)
        size = os.path.getsize(device(c, osd))
        os.truncate(device(c, osd), 0)
        os.truncate(device(c, osd), size)
    wait_for("health to tell", lambda: problem(c, "PG_NO_LEADER") and "osd lost" in problem(c, "PG_NO_LEADER")["todo"], 30)
    text = c.fb("pg", "force-recover", "--all-lost", "--yes-lose-data", code=1)
    expect("fastblock osd lost" in text, text)
    c.fb("osd", "lost", "osd.1", code=1)
    expect("--yes-it-is-gone" in c.stderr, c.stderr)
    c.fb("osd", "lost", "osd.0", "--yes-it-is-gone", code=1)
    expect("is running" in c.stderr, c.stderr)
    for osd in kept:
        c.fb("osd", "lost", f"osd.{osd}", "--yes-it-is-gone")
    wait_for("health to name the command",
             lambda: problem(c, "PG_MAJORITY_LOST") and "force-recover --all-lost" in problem(c, "PG_MAJORITY_LOST")["todo"], 30)
    # A leader that has lost its followers counts until its last report is old.
    wait_for("no PG to have a leader", lambda: c.json("status")["pgs_active"] == 0, 20)
    # Nor is it known at once what the survivor has of a PG that it led until then.
    wait_for("the survivor to tell what it has",
             lambda: all(v["verdict"] == "possible" for v in json.loads(c.fb("pg", "force-recover", "--all-lost", "--json", code=None))), 20)
    text = c.fb("pg", "force-recover", "--all-lost", code=1)
    expect("--yes-lose-data" in c.stderr and "the best to go on with" in text, text + c.stderr)
    expect(c.json("status")["pgs_active"] == 0, "looking changes nothing")
    text = c.fb("pg", "force-recover", "--all-lost", "--yes-lose-data")
    expect("8 PGs go on with one replica each (no acknowledged write is known to be lost)" in text, text)
    text = c.fb("health")
    expect("PG_FORCED (warning)" in text and "health detail" in text, text)
    wait_for("all PGs to have a leader", lambda: c.json("status")["pgs_active"] == 8, 20)
    # Nobody wrote when they died: nothing is lost, and I/O goes on.
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    result = c.hammer("run", time=3, blocks=512)
    expect(result["errors"] == 0, f"{result}")
    shown = c.json("pg", "show", c.json("pg", "ls")[0]["pg"])
    expect(shown["forced"] and not shown["forced"]["waits"] and shown["forced"]["writes_lost"] == 0, f"{shown}")
    # New OSDs come, and everything is whole again.
    c.fb("cluster", "up", c.dir, "--osds", "5")
    wait_for("all to be healed", lambda: settled(c), 90, 0.2)
    expect(problem(c, "PG_FORCED"), "health tells until it is acknowledged")
    c.fb("pg", "acknowledge", "--all")
    wait_for("health to be ok", lambda: c.json("status")["health"] == "ok", 30)
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    # The old devices turn up again: they are refused, and do no harm.
    for osd, copy in kept.items():
        os.rename(copy, device(c, osd))
        c.fb("cluster", "start", c.dir, f"osd.{osd}", code=1)
        expect("was removed" in c.stderr, c.stderr)
    result = c.hammer("run", time=2, blocks=512)
    checked = c.hammer("check")
    expect(result["errors"] == 0 and checked["wrong"] == 0 and checked["errors"] == 0, f"{result} {checked}")
    expect(settled(c), "nothing has changed")


def test_more_than_a_page(c):
    """All PGs without a leader are shown, however many."""
    c.pool_image(size="32M", pgs=300)
    c.kill("osd.1", "osd.2")
    wait_for("no PG to have a leader", lambda: c.json("status")["pgs_active"] == 0, 30)
    views = c.json("pg", "force-recover", "--all-lost")
    expect(len(views) == 300 and all(v["verdict"] == "osds-down" for v in views), f"{len(views)} PGs: {views[-1]}")


def test_another_than_the_best(c):
    """What is said to be lost is what the replica that was named lacks."""
    c.fb("cluster", "up", c.dir, "--osds", "5")
    c.pool_image(size="32M", pgs=1, replicas=5)
    c.kill("osd.1", sig=signal.SIGSTOP)
    c.hammer("run", time=2, blocks=512)
    c.kill("osd.2", "osd.3", "osd.4")
    c.kill("osd.1", sig=signal.SIGCONT)
    for osd in ("osd.2", "osd.3", "osd.4"):
        wait_for(f"{osd} to be down", lambda o=osd: c.fb("osd", "lost", o, "--yes-it-is-gone", code=None) and c.code == 0, 30)

    def look(*args):
        view = json.loads(c.fb("pg", "force-recover", "1.0", *args, "--json", code=None))[0]
        return view if view["verdict"] == "possible" else None
    best = wait_for("what is left", look, 30)
    other = look("--osd", "osd.1")
    osds = {r["replica"]: r["osd"] for r in best["replicas"]}
    expect(osds[best["survivor"]] == 0 and osds[other["survivor"]] == 1, f"{best} {other}")
    expect(other["writes_lost"] > best["writes_lost"], f"{best} {other}")
    c.fb("pg", "force-recover", "1.0", "--osd", "banana", code=2)
    text = c.fb("pg", "force-recover", "1.0", "--osd", "osd.1", "--yes-lose-data")
    expect("the one that --osd names" in text and f"at least {other['writes_lost']} acknowledged writes are lost); they" in text, text)
    expect(c.json("pg", "show", "1.0")["forced"]["writes_lost"] == other["writes_lost"], "what is recorded")


if __name__ == "__main__":
    main(globals(), cluster=Cluster, osds=3)
