# SPDX-License-Identifier: Apache-2.0
"""A cluster whose monitor keeps its metadata in etcd: three members, of which one dies together with the monitor."""
import os
import signal
import socket
import urllib.request

from harness import BIN, Cluster, expect, main, wait_for


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class EtcdCluster(Cluster):
    """By hand, without `fastblock cluster`: that one's monitor keeps a SQLite file."""
    def bring_up(self, osds, shards, size, spin):
        os.mkdir(self.dir)
        self.daemons = {}
        ports = free_ports(7)
        self.clients, self.peers, mon = ports[:3], ports[3:6], f"127.0.0.1:{ports[6]}"
        self.env["FASTBLOCK_MON"] = mon
        self.commands = {}
        everybody = ",".join(f"etcd{i}=http://127.0.0.1:{self.peers[i]}" for i in range(3))
        for i in range(3):
            client, peer = f"http://127.0.0.1:{self.clients[i]}", f"http://127.0.0.1:{self.peers[i]}"
            self.daemon(f"etcd{i}", "etcd", "--name", f"etcd{i}", "--data-dir", os.path.join(self.dir, f"etcd{i}"),
                        "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
                        "--initial-advertise-peer-urls", peer, "--initial-cluster", everybody, "--logger", "zap")
        for i in range(3):
            wait_for(f"etcd{i}", lambda i=i: self.etcd_answers(i))
        meta = "etcd://" + ",".join(f"127.0.0.1:{port}" for port in self.clients) + "/cluster"
        self.daemon("mon", os.path.join(BIN, "fastblock-mon"), "--listen", mon, "--meta", meta)
        wait_for("the monitor", lambda: self.fb("status", code=None) and self.code == 0)
        for i in range(osds):
            device = os.path.join(self.dir, f"osd{i}.img")
            self.run(os.path.join(BIN, "fastblock-osd"), "format", device, "--mon", mon, "--size", size, "--shards", str(shards),
                     "--host", f"host{i}")
            self.daemon(f"osd.{i}", os.path.join(BIN, "fastblock-osd"), "run", device, "--mon", mon, "--listen", "127.0.0.1")
        wait_for("the OSDs", lambda: self.json("status")["osds_up"] == osds)

    def daemon(self, name, *args):
        self.commands[name] = args
        with open(os.path.join(self.dir, name + ".log"), "a") as log:
            self.daemons[name] = self.start(*args, stdout=log, stderr=log)

    def start_process(self, name):
        self.daemon(name, *self.commands[name])

    def pid(self, name):
        return self.daemons[name].pid

    def processes(self):
        return []  # all are children

    def kill(self, *names, sig=signal.SIGKILL):
        for name in names:
            self.daemons[name].send_signal(sig)
            self.daemons[name].wait()

    def etcd_answers(self, member):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.clients[member]}/health", timeout=2) as answer:
                return b"true" in answer.read()
        except OSError:
            return False


def images(c):
    return [(i["name"], i["id"], i["size_bytes"], i["generation"]) for i in c.json("image", "ls", "p")]


def test_monitor_and_a_member_die_and_come_back(c):
    c.pool_image()
    c.fb("image", "create", "p/second", "--size", "64M")
    before = images(c)
    child = c.hammer("run", background=True, time=8, blocks=2048)
    wait_for("the writer", lambda: c.json("image", "info", "p/i")["writer"])
    c.kill("mon", "etcd0")
    c.start_process("mon")  # on the two members that are left
    c.wait_active()
    expect(images(c) == before, "the images are not the same after the monitor's start")
    c.fb("image", "create", "p/third", "--size", "64M")
    c.start_process("etcd0")
    wait_for("etcd0", lambda: c.etcd_answers(0))
    c.kill("etcd1")  # under the running monitor
    # What is under way in a member that dies may be refused, as unknown; then it is tried again.
    wait_for("a change on the members that are left",
             lambda: c.fb("image", "create", "p/fourth", "--size", "64M", code=None) is not None and
             "fourth" in c.fb("image", "ls", "p"))
    result = c.hammer_result(child)
    expect(result["errors"] == 0 and result["writes"] > 100, f"hammer: {result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    c.start_process("etcd1")
    wait_for("etcd1", lambda: c.etcd_answers(1))
    c.kill("mon")
    c.start_process("mon")
    c.wait_active()
    expect(len(c.json("image", "ls", "p")) == 4, "an image is missing")


main(globals(), cluster=EtcdCluster)
