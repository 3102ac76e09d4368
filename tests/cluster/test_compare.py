# SPDX-License-Identifier: Apache-2.0
"""bench/compare measures what it says it does, and leaves nothing behind, however it ends."""
import json
import os
import signal
import tempfile

from harness import Cluster, expect, main, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FASTBLOCK_BUILD", os.path.join(ROOT, "build"))
COMPARE = [os.path.join(ROOT, "bench/compare"), "--peers", "floor", "--size", "64", "--time", "1", "--repeat", "1", "--no-own", "--no-limits"]


class Directory(Cluster):
    """Without a cluster: bench/compare starts its own."""

    def bring_up(self, osds, shards, size, spin):
        os.mkdir(self.dir)


def processes_naming(text):
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                arguments = f.read()
        except OSError:
            continue
        if text.encode() in arguments and b"bench/compare" not in arguments:
            found.append(pid)
    return found


def test_figures_and_goals(c):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as where:
        out = json.loads(c.run(*COMPARE, "--dir", where, "--workloads", "4k-randwrite-qd32,4k-randrw70", "--json"))
        expect(os.listdir(where) == [] and not processes_naming(where), f"left behind: {os.listdir(where)}")
    for workload, side in (("4k-randwrite-qd32", "fastblock"), ("4k-randwrite-qd32", "floor"), ("4k-randwrite-qd32-8images", "fastblock"),
                           ("4k-randrw70-qd32", "fastblock")):
        figures = out["rounds"][workload][side][0]
        expect(all(figures[name] > 0 for name in ("iops", "mb_s", "p50", "p99", "p999", "cpu")), f"{workload} of {side}: {figures}")
        expect(figures["p50"] <= figures["p99"] <= figures["p999"], f"{workload} of {side}: {figures}")
        # Depth over latency: a closed loop cannot do more.
        expect(figures["iops"] * figures["p50"] / 1e6 < 2 * 32, f"{workload} of {side}: more than 32 under way? {figures}")
    expect("floor" not in out["rounds"]["4k-randrw70-qd32"], "the floor has no mix")
    goals = {goal["goal"]: goal for goal in out["goals"]}
    one = goals["CPU per 4 KiB write, depth 32, with write-back, against floor"]
    rounds = out["rounds"]["4k-randwrite-qd32"]
    expect(abs(one["rounds"][0] - rounds["fastblock"][0]["cpu"] / rounds["floor"][0]["cpu"]) < 1e-9, f"goal {one}")
    expect(not any("ceph" in goal for goal in goals), f"goals without their peer: {list(goals)}")


def started(c, where, *args):
    """A comparison that writes what it prints to files: (process, stdout, stderr)."""
    out, err = os.path.join(c.root, "out"), os.path.join(c.root, "err")
    with open(out, "w") as stdout, open(err, "w") as stderr:
        return c.start(*COMPARE, "--dir", where, *args, stdout=stdout, stderr=stderr), out, err


def text_of(path):
    with open(path) as f:
        return f.read()


def test_stopped_half_way(c):
    """Ctrl-C and TERM: what was measured by then is printed, with its goals."""
    for sig in (signal.SIGINT, signal.SIGTERM):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as where:
            child, out, err = started(c, where, "--repeat", "1000", "--workloads", "4k-randwrite-qd32-hot,4k-randread-qd1")
            wait_for("a second round", lambda: "round 2 of" in text_of(err), 120)
            child.send_signal(sig)
            expect(child.wait(timeout=60) == 1, "stopped, and says that all is well")
            expect("| 4k-randwrite-qd32-hot | fastblock |" in text_of(out) and "| 4k-randread-qd1 | fastblock |" in text_of(out), text_of(out))
            expect("latency, 4 KiB read, depth 1, p50, against floor" in text_of(out), text_of(out))
            expect("stopped" in text_of(err) and " left] round 1 of 1000" in text_of(err), text_of(err))
            expect(os.listdir(where) == [] and not processes_naming(where), f"left behind: {os.listdir(where)}")


def test_stopped_before_a_measurement(c):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as where:
        child, out, err = started(c, where)
        wait_for("its directory", lambda: os.listdir(where))
        child.send_signal(signal.SIGINT)
        expect(child.wait(timeout=60) == 1 and "| 4k" not in text_of(out), f"{text_of(out)}{text_of(err)}")
        expect("Traceback" not in text_of(err), text_of(err))
        expect(os.listdir(where) == [] and not processes_naming(where), f"left behind: {os.listdir(where)}")


def test_a_side_fails(c):
    """The peer dies in the middle: its later rows are missing, ours are there, and it is said."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as where:
        build = os.path.join(c.root, "build")
        os.makedirs(os.path.join(build, "bench"))
        os.symlink(os.path.join(BUILD, "src"), os.path.join(build, "src"))
        with open(os.path.join(build, "bench/floor"), "w") as f:  # runs for the round that does not count, and once more
            f.write(f"#!/bin/sh\necho >> {c.root}/runs\n[ $(wc -l < {c.root}/runs) -gt 3 ] && {{ echo it broke; exit 3; }}\nexec {BUILD}/bench/floor \"$@\"\n")
        os.chmod(os.path.join(build, "bench/floor"), 0o755)
        c.env["FASTBLOCK_BUILD"] = build
        child, out, err = started(c, where, "--workloads", "4k-randwrite-qd32-hot,128k")
        expect(child.wait(timeout=120) == 1, "a side failed, and it says that all is well")
        rows = [line for line in text_of(out).split("\n") if line.startswith("|")]
        expect(sum("| floor |" in row for row in rows) == 1, text_of(out))
        expect(sum("| fastblock |" in row for row in rows) == 2, text_of(out))
        expect("nothing to write back, against floor" in text_of(out), text_of(out))
        expect("floor failed" in text_of(err) and "it broke" in text_of(err), text_of(err))
        expect(os.listdir(where) == [] and not processes_naming(where), f"left behind: {os.listdir(where)}")


def test_words(c):
    c.run(*COMPARE, "--peers", "nobody", code=2)
    expect("floor, ceph" in c.stderr, c.stderr)
    c.run(*COMPARE, "--workloads", "nothing", code=2)
    expect("4k-randwrite-qd1" in c.stderr, c.stderr)


main(globals(), cluster=Directory)
