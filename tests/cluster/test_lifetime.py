# SPDX-License-Identifier: Apache-2.0
"""The life of a cluster, in one piece: three monitors on three members of etcd, six hosts with an OSD each. Two hosts are lost and replaced, three
are added, three are drained and removed, under a client that checks every read. Every host is a network namespace. Needs root."""
import os
import signal
import time

from harness import BIN, Failure, expect, is_alive, main, wait_for
from hosted import HostedCluster
from test_members import counter, replicas, settled

OUT_AFTER = 5
CORE = ("n1", "n2", "n3")  # they also have a monitor and a member of etcd each
OBJECT = 2 << 20
SETTLE_S = 120


class HostsCluster(HostedCluster):
    HOSTS = tuple(f"n{i}" for i in range(1, 10)) + ("client",)

    def bring_up(self, osds, shards, size, spin):
        self.network.make()
        os.mkdir(self.dir)
        self.size, self.ids, self.devices = size, {}, 0
        self.etcds = [f"http://{self.network.address(host)}" for host in CORE]
        self.mons = ",".join(f"{self.network.address(host)}:7700" for host in CORE)
        self.env["FASTBLOCK_MON"] = self.mons
        for host in CORE:
            self.start_etcd(host)
        for host in CORE:
            self.start_mon(host)
        wait_for("a monitor to lead", lambda: self.fb("status", code=None) and self.code == 0, 40)
        for host in self.HOSTS[:osds]:
            self.add_osd(host)
        wait_for("the OSDs", lambda: self.json("status")["osds_up"] == osds)

    def program(self, host, name, *args):
        with open(os.path.join(self.dir, f"{host}.{name}.log"), "a") as log:
            self.daemons[f"{host}.{name}"] = self.start(*self.network.exec(host, *args), stdout=log, stderr=log)

    def start_etcd(self, host):
        own = self.etcds[CORE.index(host)]
        self.program(host, "etcd", "etcd", "--name", host, "--data-dir", os.path.join(self.dir, host + ".etcd"),
                     "--listen-client-urls", own + ":2379", "--advertise-client-urls", own + ":2379", "--listen-peer-urls", own + ":2380",
                     "--initial-advertise-peer-urls", own + ":2380", "--initial-cluster",
                     ",".join(f"{h}={url}:2380" for h, url in zip(CORE, self.etcds)), "--logger", "zap")

    def start_mon(self, host):
        meta = "etcd://" + ",".join(f"{self.network.address(h)}:2379" for h in CORE)
        self.program(host, "mon", os.path.join(BIN, "fastblock-mon"), "--listen", self.network.address(host) + ":7700", "--meta", meta,
                     "--osd-out-after", str(OUT_AFTER))

    def add_osd(self, host):
        """A new device in this host, and its OSD."""
        self.devices += 1
        device = os.path.join(self.dir, f"device{self.devices}")
        osd = os.path.join(BIN, "fastblock-osd")
        told = self.run(*self.network.exec(host, osd, "format", device, "--size", self.size, "--host", host))
        self.ids[host] = int(told.split(" is osd.")[1].split(" ")[0])
        self.program(host, "osd", osd, "run", device, "--listen", self.network.address(host))

    def lose_host(self, host):
        for name, daemon in self.daemons.items():
            if name.startswith(host + ".") and daemon.poll() is None:
                daemon.kill()
                daemon.wait()

    def osd(self, host):
        return next((o for o in self.json("osd", "ls") if o["id"] == self.ids[host]), None)


def received(c):
    return {o["id"]: counter(c, o["id"], "recover_received") for o in c.json("osd", "ls") if o["up"]}


def replica_set(c):
    return {(pg["pg"], osd): pg["objects"] for pg in c.json("pg", "ls") for osd in pg["members"]}


class Step:
    """One change of the cluster. What it copies is held against the least that would do, in number of replicas, and what came against the
    data of the replicas that are new."""

    def __init__(self, c, name, least):
        self.c, self.name, self.least = c, name, least
        self.before, self.had, self.began = received(c), replica_set(c), time.monotonic()

    def end(self):
        wait_for(f"all to be settled: {self.name}", lambda: settled(self.c), SETTLE_S, 0.5)
        moved = 4096 * sum(value - self.before.get(osd, 0) for osd, value in received(self.c).items())
        new = {key: objects for key, objects in replica_set(self.c).items() if key not in self.had}
        data = sum(new.values()) * OBJECT
        print(f"# {self.name}: {time.monotonic() - self.began:.1f} s, {len(new)} replicas are new, {self.least} would do; "
              f"{moved >> 20} MiB came, {data >> 20} MiB would do", flush=True)
        expect(len(new) <= 1.2 * self.least, f"{self.name}: {len(new)} replicas were copied, {self.least} would do")
        expect(moved <= 1.2 * data, f"{self.name}: {moved} bytes were copied, {data} would do")


def lose_and_replace(c, host):
    osd = c.ids[host]
    step = Step(c, f"{host} is lost", replicas(c, osd))
    c.lose_host(host)
    wait_for(f"osd.{osd} to be out", lambda: not c.osd(host)["in"], 60)
    wait_for("its PGs to be healed", lambda: replicas(c, osd) == 0, SETTLE_S, 0.5)
    step.end()
    c.fb("osd", "remove", f"osd.{osd}")


def test_a_life(c):
    c.pool_image(size="32M", pgs=48)
    c.fb("image", "create", "p/full", "--size", "192M")
    c.fb("bench", "p/full", "--rw", "write", "--bs", "1M", "--qd", "8", "--time", "3")
    child = c.hammer("run", background=True, time=600, blocks=4096, qd=8)
    everything = len(replica_set(c))

    lose_and_replace(c, "n2")
    lose_and_replace(c, "n5")
    step = Step(c, "both are replaced", everything * 2 // 6)
    for host in ("n2", "n5"):
        c.add_osd(host)
    c.start_etcd("n2")
    c.start_mon("n2")
    wait_for("the new ones to be used", lambda: all(replicas(c, c.ids[host]) for host in ("n2", "n5")), SETTLE_S, 0.5)
    step.end()

    step = Step(c, "three are added", everything * 3 // 9)
    for host in ("n7", "n8", "n9"):
        c.add_osd(host)
    wait_for("they are used", lambda: all(replicas(c, c.ids[host]) for host in ("n7", "n8", "n9")), SETTLE_S, 0.5)
    step.end()
    counts = sorted(replicas(c, osd) for osd in c.ids.values())
    expect(counts[-1] - counts[0] <= 1, f"replicas by OSD: {counts}")

    for host in ("n1", "n4", "n6"):
        osd = c.ids[host]
        step = Step(c, f"{host} is drained", replicas(c, osd))
        c.fb("osd", "drain", f"osd.{osd}", timeout=SETTLE_S)
        step.end()
        daemon = c.daemons[host + ".osd"]
        daemon.send_signal(signal.SIGTERM)
        wait_for("it to end", lambda daemon=daemon: not is_alive(daemon.pid))
        wait_for("it to be down", lambda host=host: not c.osd(host)["up"], 30)
        c.fb("osd", "remove", f"osd.{osd}")

    expect(child.poll() is None, "the client ended before the last change")
    child.send_signal(signal.SIGTERM)
    result = c.hammer_result(child)
    print(f"# {result}")
    expect(result["errors"] == 0 and result["writes"] > 1000, f"{result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    wait_for("health", lambda: c.json("status")["health"] == "ok", 60)
    left = {o["id"] for o in c.json("osd", "ls")}
    expect(left == {c.ids[host] for host in ("n2", "n3", "n5", "n7", "n8", "n9")}, f"OSDs: {left}")


if os.geteuid() != 0:
    raise Failure("needs root")
main(globals(), cluster=HostsCluster, osds=6, size="1G", base="/dev/shm" if os.path.isdir("/dev/shm") else None)
