# SPDX-License-Identifier: Apache-2.0
"""Every daemon on a host of its own (a network namespace behind a bridge), and links that swallow packets, in one direction or both.
Needs root. What clients saw is judged by tests/cluster/history.c: every sector's history must be linearizable."""
import json
import os
import random
import subprocess
import time

from harness import BIN, HISTORY, Cluster, Failure, expect, main, wait_for

HOSTS = ("mon", "osd.0", "osd.1", "osd.2", "client")


def ip(*args, check=True):
    done = subprocess.run(("ip",) + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise Failure(f"ip {' '.join(args)}: {done.stdout}")


class Network:
    """A bridge, and a namespace for each host. Packets are swallowed silently: the sender has a wrong hardware address."""

    def __init__(self):
        self.prefix = f"fb{os.getpid() % 100000}"
        self.bridge = self.prefix + "b"
        self.made = []

    def make(self):
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        for number, host in enumerate(HOSTS):
            ns, veth = self.ns(host), f"{self.prefix}v{number}"
            ip("netns", "add", ns)
            self.made.append(ns)
            ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", ns)
            ip("link", "set", veth, "master", self.bridge, "up")
            ip("-n", ns, "addr", "add", self.address(host) + "/24", "dev", "eth0")
            ip("-n", ns, "link", "set", "lo", "up")
            ip("-n", ns, "link", "set", "eth0", "up")

    def remove(self):
        for number, ns in enumerate(self.made):
            ip("link", "del", f"{self.prefix}v{number}", check=False)  # a namespace takes its own time to let go of it
            ip("netns", "del", ns, check=False)
        ip("link", "del", self.bridge, check=False)

    def ns(self, host):
        return f"{self.prefix}n{HOSTS.index(host)}"

    def address(self, host):
        return f"10.99.0.{HOSTS.index(host) + 1}"

    def exec(self, host, *args):
        return ("ip", "netns", "exec", self.ns(host)) + args

    def cut_way(self, sender, receiver):
        ip("-n", self.ns(sender), "neigh", "replace", self.address(receiver), "lladdr", "02:00:00:00:00:99", "dev", "eth0",
           "nud", "permanent")

    def cut(self, one, other):
        self.cut_way(one, other)
        self.cut_way(other, one)

    def isolate(self, host):
        for other in HOSTS:
            if other != host:
                self.cut(host, other)

    def heal(self):
        for host in HOSTS:
            for other in HOSTS:
                if other != host:
                    ip("-n", self.ns(host), "neigh", "del", self.address(other), "dev", "eth0", check=False)


class HostedCluster(Cluster):
    """The same as Cluster, but the daemons run in namespaces, started by hand."""

    def __init__(self):
        self.network = Network()
        self.daemons = {}
        super().__init__()

    def bring_up(self, osds, shards, size, spin):
        self.network.make()
        os.mkdir(self.dir)
        mon = self.network.address("mon") + ":7700"
        self.env["FASTBLOCK_MON"] = mon
        self.daemon("mon", "fastblock-mon", "--listen", mon, "--data", os.path.join(self.dir, "mon"))
        wait_for("the monitor", lambda: "listening on" in self.log("mon"))
        for osd in ("osd.0", "osd.1", "osd.2"):
            device = os.path.join(self.dir, osd + ".device")
            self.run(*self.network.exec(osd, os.path.join(BIN, "fastblock-osd"), "format", device, "--mon", mon, "--size", size,
                                        "--shards", str(shards), "--host", osd.replace(".", "-")))
            self.daemon(osd, "fastblock-osd", "run", device, "--mon", mon, "--listen", self.network.address(osd))
        wait_for("the OSDs", lambda: self.json("status")["osds_up"] == 3)

    def daemon(self, host, program, *args):
        with open(os.path.join(self.dir, host + ".log"), "a") as log:
            self.daemons[host] = self.start(*self.network.exec(host, os.path.join(BIN, program), *args), stderr=log)

    def log(self, host):
        with open(os.path.join(self.dir, host + ".log"), errors="replace") as f:
            return f.read()

    def fb(self, *args, code=0, timeout=120):
        return self.run(*self.network.exec("client", os.path.join(BIN, "fastblock"), *args), code=code, timeout=timeout)

    def processes(self):
        return []  # all are children

    def close(self):
        super().close()
        self.network.remove()

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
    main(globals(), cluster=HostedCluster)
