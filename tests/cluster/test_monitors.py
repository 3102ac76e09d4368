# SPDX-License-Identifier: Apache-2.0
"""Three monitors on three members of etcd: leaders are killed, stopped and go on; all of etcd is away; administrators race. Under a writer
that verifies what it reads."""
import json
import os
import signal
import subprocess
import threading
import time

from etcd import EtcdCluster
from harness import BIN, expect, main, wait_for


class ThreeMonitors(EtcdCluster):
    monitors = 3

    def monitor_list(self):
        """What `mon ls` says: {number: row}; {}: no answer."""
        out = self.fb("mon", "ls", "--json", code=None)
        return {self.mons.index(row["address"]): row for row in json.loads(out)} if out else {}

    def says(self, mon):
        """What one of them says itself; {}: nothing."""
        out = self.fb("mon", "status", "--json", code=None)
        rows = {self.mons.index(row["address"]): row for row in json.loads(out)} if out else {}
        return rows[mon] if rows.get(mon, {}).get("answers") else {}

    def leader(self, not_this=None):
        def look():
            rows = self.monitor_list()
            leaders = [n for n, row in rows.items() if row["leads"] and n != not_this]
            return leaders and [leaders[0]]
        return wait_for("a monitor to lead", look, timeout=40, pause=0.2)[0]

    def osds_down(self):
        """How often a monitor has called an OSD down."""
        count = 0
        for n in range(self.monitors):
            with open(os.path.join(self.dir, f"mon.{n}.log"), errors="replace") as log:
                count += log.read().count(" is down: ")
        return count

    def all_up(self):
        status = self.json("status")
        return status["osds_up"] == status["osds"]


def begin(c, seconds):
    c.pool_image()
    child = c.hammer("run", background=True, time=seconds, blocks=2048)
    wait_for("the writer", lambda: c.json("image", "info", "p/i")["writer"])
    return child


def end(c, child):
    child.terminate()  # it ends in order
    result = c.hammer_result(child)
    expect(result["errors"] == 0 and result["writes"] > 100, f"hammer: {result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    return result


def test_all_know_one_another(c):
    leader = c.leader()
    rows = wait_for("all monitors", lambda: (lambda r: r if len(r) == 3 and all(row["alive"] for row in r.values()) else None)(c.monitor_list()))
    expect([row["leads"] for _, row in sorted(rows.items())] == [n == leader for n in range(3)], f"{rows}")
    for n in range(3):
        expect(c.says(n).get("leader") == c.mons[leader], f"monitor {n}: {c.says(n)}")
    # One address is enough, whichever it is, for what the leader has to do, too.
    for n in range(3):
        c.fb("pool", "create", f"pool{n}", "--pgs", "4", "--mon", c.mons[n])
    expect(len(c.json("pool", "ls")) == 3, "a pool is missing")


def test_the_leader_is_killed(c):
    child = begin(c, 20)
    for _ in range(2):
        leader = c.leader()
        c.kill(f"mon.{leader}")
        began = time.monotonic()
        c.fb("image", "create", f"p/after{leader}", "--size", "64M")
        print(f"# a change {time.monotonic() - began:.1f} s after the death of the leader")
        c.leader(not_this=leader)
        c.start_process(f"mon.{leader}")
        wait_for("the monitor to be back", lambda leader=leader: c.says(leader).get("leader"))
        c.wait_active()
    end(c, child)
    expect(c.osds_down() == 0, "an OSD was called down")
    expect(c.all_up(), "an OSD is down")


def test_the_leader_is_stopped_for_a_minute(c):
    child = begin(c, 75)
    leader = c.leader()
    os.kill(c.pid(f"mon.{leader}"), signal.SIGSTOP)
    other = c.leader(not_this=leader)
    c.fb("image", "create", "p/second", "--size", "64M")
    c.kill("osd.2")
    wait_for("osd.2 to be down", lambda: not c.all_up())
    c.start_process("osd.2")
    wait_for("osd.2 to be up", c.all_up)
    downs = c.osds_down()
    time.sleep(45)  # what is tested is time itself
    os.kill(c.pid(f"mon.{leader}"), signal.SIGCONT)
    wait_for("it to follow", lambda: c.says(leader).get("leader") == c.mons[other])
    # A call to it by name comes to the leader.
    c.fb("image", "create", "p/third", "--size", "64M", "--mon", c.mons[leader])
    end(c, child)
    expect(c.osds_down() == downs, "an OSD was called down by a monitor that had slept")
    expect(sorted(i["name"] for i in c.json("image", "ls", "p")) == ["i", "second", "third"], "an image is missing, or too many")
    c.wait_active()


def test_etcd_is_away_for_a_minute(c):
    child = begin(c, 80)
    etcds = [f"etcd{i}" for i in range(3)]
    for name in etcds:
        os.kill(c.pid(name), signal.SIGSTOP)
    # Nobody leads; maps are served, and I/O goes on.
    time.sleep(10)
    c.fb("image", "create", "p/never", "--size", "64M", code=1)
    expect("no monitor leads" in c.stderr, f"what is wrong is not said: {c.stderr}")
    expect(len(c.json("pool", "ls")) == 1, "the map is not served")
    time.sleep(40)
    for name in etcds:
        os.kill(c.pid(name), signal.SIGCONT)
    c.leader()
    c.fb("image", "create", "p/second", "--size", "64M")
    c.wait_active()
    result = end(c, child)
    expect(result["max_gap_ms"] < 5000, f"I/O stood still: {result}")
    expect(c.osds_down() == 0, "an OSD was called down because etcd was away")


def test_administrators_race(c):
    """Two make images, through different monitors, while leaders die: what was confirmed is there, once."""
    c.fb("pool", "create", "p", "--pgs", "8")
    c.wait_active()
    confirmed, stop = [[], []], threading.Event()

    def administrate(who):
        n = 0
        while not stop.is_set():
            name = f"a{who}-{n}"
            n += 1
            done = subprocess.run([os.path.join(BIN, "fastblock"), "image", "create", f"p/{name}", "--size", "16M", "--mon", c.mons[who]],
                                  env=c.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                confirmed[who].append(name)
    # Both want this one: one gets it.
    both = [c.start(os.path.join(BIN, "fastblock"), "image", "create", "p/both", "--size", "16M", "--mon", c.mons[n]) for n in range(2)]
    codes = sorted(child.wait(60) for child in both)
    expect(codes == [0, 1], f"one of two that create the same image must win: {codes}")
    threads = [threading.Thread(target=administrate, args=(who,)) for who in range(2)]
    for t in threads:
        t.start()
    try:
        time.sleep(3)
        leader = c.leader()
        c.kill(f"mon.{leader}")
        c.leader(not_this=leader)
        time.sleep(3)
        c.start_process(f"mon.{leader}")
        time.sleep(2)
    finally:
        stop.set()
        for t in threads:
            t.join()
    rows = c.json("image", "ls", "p")
    names, ids = [r["name"] for r in rows], [r["id"] for r in rows]
    expect(len(set(names)) == len(names) and len(set(ids)) == len(ids), "a name or an id was given out twice")
    lost = [name for who in confirmed for name in who if name not in names]
    expect(not lost, f"lost: {lost}")
    expect(all(len(who) > 3 for who in confirmed), f"{[len(who) for who in confirmed]} images")


main(globals(), cluster=ThreeMonitors)
