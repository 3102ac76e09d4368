# SPDX-License-Identifier: Apache-2.0
"""bench/compare measures what it says it does, and leaves nothing behind, however it ends."""
import json
import os
import signal
import subprocess
import tempfile

from harness import expect, main, wait_for

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COMPARE = [os.path.join(ROOT, "bench/compare"), "--peers", "floor", "--size", "64", "--time", "1", "--repeat", "1", "--no-own", "--no-limits"]


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


def test_stopped_half_way(c):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as where:
        child = c.start(*COMPARE, "--dir", where, "--time", "30", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("a run", lambda: any(os.path.exists(f"/proc/{pid}/root") for pid in processes_naming(where)))
        child.send_signal(signal.SIGINT)
        expect(child.wait(timeout=60) != 0, "stopped, and says that all is well")
        expect(os.listdir(where) == [] and not processes_naming(where), f"left behind: {os.listdir(where)}")


def test_words(c):
    c.run(*COMPARE, "--peers", "nobody", code=2)
    expect("floor, ceph" in c.stderr, c.stderr)
    c.run(*COMPARE, "--workloads", "nothing", code=2)
    expect("4k-randwrite-qd1" in c.stderr, c.stderr)


main(globals())
