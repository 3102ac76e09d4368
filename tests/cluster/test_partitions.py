# SPDX-License-Identifier: Apache-2.0
"""Every daemon on a host of its own, and links that swallow packets, in one direction or both (tests/cluster/hosted.py). Needs root. What clients saw is judged by tests/cluster/history.c: every sector's history must be linearizable."""
import json
import random
import subprocess
import time

from harness import HISTORY, Failure, expect, main
from hosted import HOSTS, HostedCluster

class HistoryCluster(HostedCluster):
    def history(self, action, seconds, image="p/i", settle=1.5, **options):
        """Runs the clients, `action` in the middle, and returns their verdict."""
        args = [f"{name}={value}" for name, value in dict(options, time=seconds).items()]
        child = self.start(*self.network.exec("client", HISTORY, image, *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True)
        time.sleep(settle)
        try:
            action()
        finally:
            self.network.heal()
        out, err = child.communicate(timeout=180)
        if child.returncode:
            raise Failure(f"history: exit code {child.returncode}: {out}{err}")
        result = json.loads(out)
        print(f"# {out.strip()}")
        expect(result["writes"] > 100, f"hardly anything was written: {result}")
        self.wait_active()
        return result


def leader_of_most(c):
    leaders = list(c.leaders().values())
    return max(set(leaders), key=leaders.count)


def test_follower_cut_off(c):
    c.pool_image()
    c.fb("osd", "demote", "osd.1")

    def action():
        c.network.isolate("osd.1")
        time.sleep(4)
    result = c.history(action, 7)
    expect(result["slowest_ms"] < 300, f"a request took too long: {result}")


def test_leader_cut_off(c):
    """Nothing is refused and nothing answers: the followers must miss the leader, and the clients, too."""
    c.pool_image()

    def action():
        c.network.isolate("osd.2")
        time.sleep(5)
    result = c.history(action, 8)
    expect(result["slowest_ms"] < 2500, f"a request took too long: {result}")


def test_leader_cut_off_from_followers_only(c):
    """Clients still reach the old leader. It must not answer reads with what a new one has overwritten meanwhile."""
    c.pool_image()

    def action():
        for _ in range(3):
            c.network.cut("osd.0", "osd.1")
            c.network.cut("osd.0", "osd.2")
            time.sleep(1.5)
            c.network.heal()
            time.sleep(0.7)
    result = c.history(action, 9)
    expect(result["slowest_ms"] < 2500, f"a request took too long: {result}")


def test_one_way_links(c):
    """Heartbeats arrive, answers do not; and the other way round."""
    c.pool_image()

    def action():
        for sender, receivers in (("osd.1", ("osd.0", "osd.2")), ("osd.0", ("osd.1", "osd.2", "client")), ("client", ("osd.2",))):
            for receiver in receivers:
                c.network.cut_way(sender, receiver)
            time.sleep(2)
            c.network.heal()
            time.sleep(0.7)
    result = c.history(action, 11)
    expect(result["slowest_ms"] < 4500, f"a request took too long: {result}")


def test_random_partitions(c):
    c.pool_image(pgs=32)
    seed = random.randrange(1 << 30)
    print(f"# seed {seed}")
    chance = random.Random(seed)

    def action():
        for _ in range(12):
            for _ in range(chance.randrange(1, 5)):
                one, other = chance.sample(HOSTS, 2)
                (c.network.cut if chance.random() < 0.5 else c.network.cut_way)(one, other)
            time.sleep(chance.random() * 2)
            if chance.random() < 0.7:
                c.network.heal()
                time.sleep(chance.random())
    c.history(action, 20)


if __name__ == "__main__":
    main(globals(), cluster=HistoryCluster)
