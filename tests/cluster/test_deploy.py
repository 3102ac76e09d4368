# SPDX-License-Identifier: Apache-2.0
"""fastblock-deploy on hosts that are namespaces: each has a network, an /etc and a directory of its own. A stand-in for ssh runs a shell
there, one for systemctl starts what the units say. Needs root."""
import os
import shutil
import signal
import subprocess
import sys

from harness import BIN, Cluster, Failure, expect, is_alive, main, wait_for
from hosted import Network

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
UNITS = os.environ.get("FASTBLOCK_UNITS", os.path.join(SOURCE, "build/deploy"))
DEPLOY = os.path.join(SOURCE, "deploy/fastblock-deploy")
NODES = ("node1", "node2", "node3", "node4")

SSH = """#!/bin/sh
host=$1; shift
[ -e {root}/$host/pid ] || {{ echo "ssh: no such host $host" >&2; exit 255; }}
export HOST_DIR={root}/$host PATH={root}/bin:{bin}:$PATH
exec nsenter -t "$(cat {root}/$host/pid)" -m -n "$@"
"""

SYSTEMCTL = """#!{python}
import os, re, subprocess, sys
where, verb, unit = os.environ["HOST_DIR"], sys.argv[1], sys.argv[-1]
unit = unit if unit.endswith(".service") else unit + ".service"
pid_file = os.path.join(where, unit + ".pid")
def active():
    try:
        with open(pid_file) as f, open("/proc/" + f.read().strip() + "/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
if verb == "is-active":
    sys.exit(0 if active() else 3)
name, _, instance = unit[:-len(".service")].partition("@")
with open(os.path.join("{units}", name + ("@" if instance else "") + ".service")) as f:
    command = re.search("^ExecStart=(.*)$", f.read(), re.M).group(1).split()
path = subprocess.run(("systemd-escape", "--unescape", "--path", instance), stdout=subprocess.PIPE, text=True).stdout.strip() if instance else ""
command = [os.path.join("{bin}", os.path.basename(command[0]))] + [word.replace("%f", path) for word in command[1:]]
if not active():
    with open(os.path.join(where, unit + ".log"), "a") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    with open(pid_file, "w") as f:
        f.write(str(child.pid))
"""


class DeployedCluster(Cluster):
    def bring_up(self, osds, shards, size, spin):
        os.mkdir(self.dir)
        self.network, self.holders = Network(NODES), []
        self.network.make()
        self.env.pop("FASTBLOCK_CONF", None)
        os.mkdir(os.path.join(self.root, "bin"))
        for name, text in (("ssh", SSH), ("systemctl", SYSTEMCTL)):
            path = os.path.join(self.root, "bin", name)
            with open(path, "w") as f:
                f.write(text.format(root=self.root, bin=os.path.abspath(BIN), units=UNITS, python=sys.executable))
            os.chmod(path, 0o755)
        for node in NODES:
            os.mkdir(self.at(node))
            shutil.copytree("/etc", self.at(node, "etc"), symlinks=True, ignore=shutil.ignore_patterns("fastblock.conf", "ssl"))
            script = f"mount --bind {self.at(node, 'etc')} /etc && echo $$ >{self.at(node, 'pid')} && exec sleep 1000"
            self.holders.append(self.start(*self.network.exec(node, "unshare", "-m", "sh", "-c", script)))
            for device in ("a", "b"):
                with open(self.at(node, device), "w") as f:
                    os.truncate(f.fileno(), 1 << 30)
        wait_for("the hosts", lambda: all(os.path.exists(self.at(node, "pid")) for node in NODES))

    def at(self, node, name=""):
        return os.path.join(self.root, node, name) if name else os.path.join(self.root, node)

    def describe(self, text):
        path = os.path.join(self.root, "description")
        with open(path, "w") as f:
            f.write(text)
        return path

    def deploy(self, *args, code=0):
        return self.run(DEPLOY, "--ssh", os.path.join(self.root, "bin/ssh"), *args, code=code)

    def on(self, node, *args, code=0):
        return self.run(os.path.join(self.root, "bin/ssh"), node, *args, code=code)

    def daemons(self):
        for node in NODES:
            for name in sorted(os.listdir(self.at(node))):
                if name.endswith(".service.pid"):
                    with open(self.at(node, name)) as f:
                        yield node, name, int(f.read())

    def logs(self):
        for node, name, _ in self.daemons():
            with open(self.at(node, name[:-len("pid")] + "log"), errors="replace") as f:
                print(f"# {node} {name}\n#   " + "\n#   ".join(f.read().split("\n")[-15:]))

    def close(self):
        pids = [pid for _, _, pid in self.daemons()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_for("the daemons to end", lambda: not any(is_alive(pid) for pid in pids))
        for child in self.children:
            child.kill()
            child.wait()
        self.network.remove()
        shutil.rmtree(self.root, ignore_errors=True)


def three(c):
    mon = c.network.address("node1") + ":7000"
    return f"""# three hosts, one of them with the monitor
data = {c.at('node1', 'mon')}
cache = 64M
node1 mon={mon} osd={c.at('node1', 'a')} rack=r1 zone=z1
node2 osd={c.at('node2', 'a')} rack=r2 zone=z1
node3 osd={c.at('node3', 'a')} rack=r3 zone=z2
"""


def test_a_cluster_grows_by_its_description(c):
    description = c.describe(three(c))
    told = c.deploy("--dry-run", description)
    expect("would start the monitor" in told and not list(c.daemons()), f"a dry run: {told}")

    told = c.deploy(description)
    expect(told.count("is osd.") == 3 and "health" in told, f"deploy says: {told}")
    c.on("node3", "fastblock", "pool", "create", "rbd", "--pgs", "8")
    c.on("node2", "fastblock", "image", "create", "rbd/i", "--size", "64M")
    with open(c.at("node2", "data"), "wb") as f:
        f.write(os.urandom(8 << 20))
    c.on("node2", "fastblock", "image", "import", c.at("node2", "data"), "rbd/copy")
    c.on("node3", "fastblock", "image", "export", "rbd/copy", c.at("node3", "back"))
    with open(c.at("node2", "data"), "rb") as one, open(c.at("node3", "back"), "rb") as other:
        expect(one.read() == other.read(), "what one host writes another reads")

    # Again, and with another host and devices: what is there stays.
    before = list(c.daemons())
    told = c.deploy(c.describe(three(c) + f"node4 osd={c.at('node4', 'a')},{c.at('node4', 'b')} rack=r4\n"))
    expect(told.count("runs already") == 3 and told.count("is osd.") == 2, f"deploy again says: {told}")
    expect(set(before) <= set(c.daemons()), "daemons were started again")
    tree = c.on("node4", "fastblock", "osd", "tree")
    expect("node4" in tree and "r4" in tree and tree.count("zone z") == 2, tree)

    # A device whose daemon has ended is not formatted again.
    node, name, pid = next(d for d in c.daemons() if d[0] == "node4" and "osd" in d[1])
    os.kill(pid, signal.SIGTERM)
    wait_for("the OSD to end", lambda: not is_alive(pid))
    told = c.deploy(os.path.join(c.root, "description"))
    expect(told.count("is an OSD already") == 1 and "is osd." not in told, f"deploy says: {told}")


def test_what_is_wrong_is_named_before_anything_is_done(c):
    for text, says in (("node1 osd=/dev/x\n", "no host is a monitor"),
                       ("node1 mon=10.0.0.1:7000 osd=/dev/a;reboot\n", "line 1"),
                       ("node1 mon=10.0.0.1:7000\nnode1 osd=/dev/a\n", "named twice"),
                       ("node1 mon=10.0.0.1:7000\nnode2 mon=10.0.0.2:7000\n", "meta = etcd://"),
                       ("meta = etcd://h:1\nnode1 mon=10.0.0.1:7000\nnode2 mon=10.0.0.1:7000\n", "line 3: mon=10.0.0.1:7000 is another host's"),
                       ("node1 mon=10.0.0.1:7000 osd=/dev/a,/dev/b,/dev/a\n", "/dev/a is named twice"),
                       ("node1 mon=10.0.0.1:7000 osd=/dev/a shards=65\n", "shards=65"),
                       ("cache = much\n", "cache = much: not a size"),
                       ("colour = red\n", "unknown setting 'colour'")):
        c.deploy(c.describe(text), code=2)
        expect(says in c.stderr, f"{text!r}: {c.stderr!r} lacks {says!r}")
    c.deploy(c.describe(three(c) + "nowhere osd=/dev/x\n"), code=1)
    expect("nowhere: cannot write /etc/fastblock.conf" in c.stderr and not list(c.daemons()), c.stderr)

    # Somebody else's configuration stays.
    os.remove(c.at("node1", "etc/fastblock.conf"))
    with open(c.at("node1", "etc/fastblock.conf"), "w") as f:
        f.write("mon = 10.9.9.9:1\n")
    c.deploy(c.describe(three(c)), code=1)
    expect("was not written by fastblock-deploy" in c.stderr, c.stderr)
    with open(c.at("node1", "etc/fastblock.conf")) as f:
        expect(f.read() == "mon = 10.9.9.9:1\n", "the file was changed")


def test_the_monitors_state_is_not_left_behind(c):
    """A description that says that it is elsewhere, where nothing is: a monitor started there would found another cluster."""
    c.deploy(c.describe(three(c)))
    with open(c.at("node1", "etc/fastblock.conf")) as f:
        before = f.read()
    for text in (three(c).replace("/mon\n", "/elsewhere\n"),
                 three(c).replace("data = " + c.at("node1", "mon"), "meta = etcd://127.0.0.1:1").replace("node2 ", "node2 mon=10.9.9.9:7000 ")):
        expect(text != three(c), "the description is the same")
        daemons = list(c.daemons())
        c.deploy(c.describe(text), code=1)
        expect("the state of the monitors is in " + c.at("node1", "mon") in c.stderr and "mon migrate" in c.stderr, c.stderr)
        expect(list(c.daemons()) == daemons, "something was started")
        with open(c.at("node1", "etc/fastblock.conf")) as f:
            expect(f.read() == before, "the configuration was changed")
    # Once it has been taken away it is nobody's.
    os.rename(c.at("node1", "mon"), c.at("node1", "elsewhere"))
    c.deploy(c.describe(three(c).replace("/mon\n", "/elsewhere\n")))


def test_wrong_lines_of_the_configuration(c):
    for text, says in (("[osd]\ncache\n", "line 3"), ("[osd]\ncolour = red\n", "colour"), ("[osd]\ncache = much\n", "--cache much")):
        c.env["FASTBLOCK_CONF"] = path = os.path.join(c.root, "conf")
        with open(path, "w") as f:
            f.write("mon = 10.0.0.1:7000\n" + text)
        c.run(os.path.join(BIN, "fastblock-osd"), "run", c.at("node1", "a"), code=2)
        expect(says in c.stderr, f"{text!r}: {c.stderr!r} lacks {says!r}")


if os.geteuid() != 0:
    raise Failure("needs root")
main(globals(), cluster=DeployedCluster)
