# SPDX-License-Identifier: Apache-2.0
"""A cluster with every daemon on a host of its own (a network namespace behind a bridge), whose links can be cut, in one direction or both,
and whose devices fail on order (fastblock-osd --faults). Needs root."""
import os
import signal
import subprocess

from harness import BIN, HAMMER, Cluster, Failure, wait_for

HOSTS = ("mon", "osd.0", "osd.1", "osd.2", "client")


def ip(*args, check=True):
    done = subprocess.run(("ip",) + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise Failure(f"ip {' '.join(args)}: {done.stdout}")


class Network:
    """A bridge, and a namespace for each host. Packets are swallowed silently: the sender has a wrong hardware address."""

    def __init__(self, hosts=HOSTS):
        self.hosts = hosts
        self.prefix = f"fb{os.getpid() % 100000}"
        self.bridge = self.prefix + "b"
        self.made = []

    def make(self):
        ip("link", "add", self.bridge, "type", "bridge")
        ip("link", "set", self.bridge, "up")
        for number, host in enumerate(self.hosts):
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
        return f"{self.prefix}n{self.hosts.index(host)}"

    def address(self, host):
        return f"10.99.0.{self.hosts.index(host) + 1}"

    def exec(self, host, *args):
        return ("ip", "netns", "exec", self.ns(host)) + args

    def cut_way(self, sender, receiver):
        ip("-n", self.ns(sender), "neigh", "replace", self.address(receiver), "lladdr", "02:00:00:00:00:99", "dev", "eth0",
           "nud", "permanent")

    def cut(self, one, other):
        self.cut_way(one, other)
        self.cut_way(other, one)

    def isolate(self, host):
        for other in self.hosts:
            if other != host:
                self.cut(host, other)

    def heal(self):
        for host in self.hosts:
            for other in self.hosts:
                if other != host:
                    ip("-n", self.ns(host), "neigh", "del", self.address(other), "dev", "eth0", check=False)


class HostedCluster(Cluster):
    """The same as Cluster, but the daemons run in namespaces, started by hand."""
    HOSTS = HOSTS

    def __init__(self, osd_options=(), **options):
        self.network, self.osd_options = Network(self.HOSTS), osd_options
        self.daemons, self.commands = {}, {}
        super().__init__(**options)

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
            self.write_faults(osd, "")
            self.daemon(osd, "fastblock-osd", "run", device, "--mon", mon, "--listen", self.network.address(osd),
                        "--faults", self.faults_file(osd), *self.osd_options)
        wait_for("the OSDs", lambda: self.json("status")["osds_up"] == 3)

    def daemon(self, host, program, *args):
        self.commands[host] = (program,) + args
        with open(os.path.join(self.dir, host + ".log"), "a") as log:
            self.daemons[host] = self.start(*self.network.exec(host, os.path.join(BIN, program), *args), stderr=log)

    def start_process(self, name):
        """The same again, after it has ended."""
        self.daemons[name].wait()
        self.daemon(name, *self.commands[name])

    def pid(self, name):
        return self.daemons[name].pid

    def faults_file(self, osd):
        return os.path.join(self.dir, osd + ".faults")

    def write_faults(self, osd, rules):
        with open(self.faults_file(osd), "w") as f:
            f.write(rules)

    def faults(self, osd, rules):
        """The device of this OSD fails by these rules from now on; "" ends it. Returns when they hold."""
        before = self.log(osd).count(" rules for faults ")
        self.write_faults(osd, rules)
        self.kill(osd, sig=signal.SIGHUP)
        wait_for("the rules to be read", lambda: self.log(osd).count(" rules for faults ") > before, pause=0.005)

    def log(self, host):
        with open(os.path.join(self.dir, host + ".log"), errors="replace") as f:
            return f.read()

    def fb(self, *args, code=0, timeout=120):
        return self.run(*self.network.exec("client", os.path.join(BIN, "fastblock"), *args), code=code, timeout=timeout)

    def processes(self):
        return []  # all are children

    def hammer(self, mode, image="p/i", state="state", background=False, **options):
        args = [HAMMER, mode, image, os.path.join(self.root, state)] + [f"{name}={value}" for name, value in options.items()]
        child = self.start(*self.network.exec("client", *args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return child if background else self.hammer_result(child)

    def close(self):
        try:
            super().close()
        finally:
            self.network.remove()
