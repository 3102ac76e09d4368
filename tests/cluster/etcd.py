# SPDX-License-Identifier: Apache-2.0
"""A cluster whose monitors keep their metadata in etcd, of three members."""
import os
import random
import signal
import socket
import urllib.request

from harness import BIN, Cluster, wait_for


def free_ports(count):
    """Below those that the kernel gives to outgoing connections: what starts again at one finds it free."""
    ports = []
    while len(ports) < count:
        port = random.randrange(12000, 26000)
        with socket.socket() as s:
            if port not in ports and s.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports


class EtcdCluster(Cluster):
    """By hand, without `fastblock cluster`: that one's monitor keeps a SQLite file."""
    monitors = 1

    def bring_up(self, osds, shards, size, spin):
        os.mkdir(self.dir)
        self.daemons = {}
        ports = free_ports(6 + self.monitors)
        self.clients, self.peers = ports[:3], ports[3:6]
        self.mons = [f"127.0.0.1:{port}" for port in ports[6:]]
        mon = self.env["FASTBLOCK_MON"] = ",".join(self.mons)
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
        self.meta = meta
        for i, address in enumerate(self.mons):
            self.daemon("mon" if self.monitors == 1 else f"mon.{i}", os.path.join(BIN, "fastblock-mon"), "--listen", address, "--meta", meta)
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
