# SPDX-License-Identifier: Apache-2.0
"""The monitors' metadata: saved while the cluster works, restored, moved from a directory to etcd."""
import os

from etcd import EtcdCluster
from harness import BIN, expect, in_memory, main, wait_for


class Movable(EtcdCluster):
    """Begins with a monitor on a directory; etcd stands beside it."""
    monitors = 2

    def bring_up(self, osds, shards, size, spin):
        self.first_meta = os.path.join(self.dir, "mon-data")
        super().bring_up(osds, shards, size, spin)

    def daemon(self, name, *args):
        if name == "mon.1" and not self.commands.get("mon.1"):  # not yet
            self.commands[name] = args
            return
        if name == "mon.0" and not self.commands.get("mon.0"):
            args = (*args[:-2], "--data", self.first_meta)
        super().daemon(name, *args)

    def monitor(self, number, *store):
        """Starts it on another store from now on."""
        command = self.commands[f"mon.{number}"]
        super().daemon(f"mon.{number}", *command[:3], *store)

    def stop(self, name):
        self.daemons[name].terminate()
        expect(self.daemons[name].wait(20) == 0, f"{name} did not stop in order")


def images(c):
    return [(i["name"], i["id"], i["size_bytes"], i["generation"]) for i in c.json("image", "ls", "p")]


def test_from_a_directory_to_etcd(c):
    c.pool_image(pgs=200)  # more than one transaction
    c.fb("image", "create", "p/second", "--size", "64M")
    before, pools = images(c), c.json("pool", "ls")
    child = c.hammer("run", background=True, time=15, blocks=2048)
    wait_for("the writer", lambda: c.json("image", "info", "p/i")["writer"])
    c.fb("mon", "migrate", c.first_meta, c.meta, code=1)
    expect("Stop the monitor first" in c.stderr, c.stderr)
    c.stop("mon.0")
    c.fb("mon", "migrate", c.first_meta, c.meta)
    c.fb("mon", "migrate", c.first_meta, c.meta, code=1)  # it is gone from there
    c.monitor(0, "--meta", c.meta)
    c.monitor(1, "--meta", c.meta)
    c.wait_active()
    expect(images(c) == before and c.json("pool", "ls") == pools, "not the same after the migration")
    c.fb("image", "create", "p/third", "--size", "64M")
    c.kill("mon.0")
    c.fb("image", "create", "p/fourth", "--size", "64M")  # the second one leads, whom the map named
    result = c.hammer_result(child)
    expect(result["errors"] == 0 and result["writes"] > 100, f"hammer: {result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")


def test_backup_and_restore(c):
    c.pool_image(pgs=200)
    c.fb("image", "create", "p/second", "--size", "64M")
    before = images(c)
    path = os.path.join(c.root, "backup")
    c.fb("mon", "backup", path)
    c.fb("mon", "backup", path, code=1)
    expect("already" in c.stderr, c.stderr)
    with open(path, "rb") as f:
        data = f.read()
    for at in (0, 9, len(data) // 2, len(data) - 1):
        damaged = os.path.join(c.root, "damaged")
        with open(damaged, "wb") as f:
            f.write(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:])
        c.fb("mon", "restore", damaged, "--to", c.meta, code=1)
        expect("damaged" in c.stderr, c.stderr)
    c.kill("mon.0")
    c.fb("mon", "restore", path, "--to", c.meta)
    c.fb("mon", "restore", path, "--to", c.meta, code=1)
    expect("not empty" in c.stderr, c.stderr)
    restored = os.path.join(c.root, "restored")
    c.fb("mon", "restore", path, "--to", restored)
    c.monitor(0, "--data", restored)
    c.wait_active()
    expect(images(c) == before, "not the same after the restoration")
    c.fb("image", "create", "p/third", "--size", "64M")


def test_rebuilt_from_the_osds(c):
    c.pool_image(pgs=32)
    c.fb("image", "create", "p/second", "--size", "64M")
    path = os.path.join(c.root, "backup")
    c.fb("cluster", "set", "noout")
    c.fb("mon", "backup", path)
    c.fb("image", "create", "p/unsaved", "--size", "64M")
    c.fb("image", "create", "p/removed", "--size", "64M")
    result = c.hammer_result(c.hammer("run", background=True, time=3, blocks=2048))
    expect(result["errors"] == 0 and result["writes"] > 100, f"hammer: {result}")
    c.fb("bench", "p/unsaved", "--rw", "randwrite", "--time", "1")
    c.fb("bench", "p/second", "--rw", "randwrite", "--time", "1")
    c.fb("image", "resize", "p/second", "--size", "128M")
    c.fb("image", "rm", "p/removed")
    wait_for("the orders to be done", lambda: c.json("status")["pgs_degraded"] == 0)
    # Of this one there is nothing but a few entries of logs.
    with open(os.path.join(c.root, "little"), "wb") as f:
        f.write(os.urandom(4096))
    c.fb("image", "import", os.path.join(c.root, "little"), "p/little")
    ids = {i["name"]: i["id"] for i in c.json("image", "ls", "p")}
    # One OSD is not told that a pool is removed.
    c.fb("pool", "create", "gone", "--replicas", "1", "--pgs", "1")
    wait_for("the pool", lambda: all(p["state"] == "active" for p in c.json("pg", "ls", "gone")))
    holder = c.json("pg", "ls", "gone")[0]["members"]
    away = next(n for n in range(3) if n not in holder)
    c.stop(f"osd.{away}")
    c.fb("pool", "rm", "gone")
    wait_for("the pool to be gone", lambda: "removed pools" not in str(c.json("status")["problems"]))
    generations = {i["name"]: i["generation"] for i in c.json("image", "ls", "p")}
    c.kill("mon.0")
    c.start_process(f"osd.{away}")
    osds = [f"osd.{n}" for n in range(3)]
    for name in osds:
        c.stop(name)
    devices = [os.path.join(c.dir, f"osd{n}.img") for n in range(3)]
    collected = os.path.join(c.root, "collected")
    c.fb("mon", "collect", devices[0], collected)
    rebuilt = os.path.join(c.root, "rebuilt")
    made = c.json("mon", "rebuild", ",".join([collected] + devices[1:]), "--to", rebuilt, "--backup", path)
    expect(made["images"] == 2 and made["images_without_name"] == 2 and made["maps"] == 3, f"{made}")
    c.monitor(0, "--data", rebuilt)
    for name in osds:
        c.start_process(name)
    c.wait_active()
    expect(c.json("status")["noout"], "the flag of the backup is lost")
    expect([p["name"] for p in c.json("pool", "ls")] == ["p"], "a removed pool is back")
    rows = {i["name"]: i for i in c.json("image", "ls", "p")}
    expect(rows["second"]["generation"] > generations["second"] + 100, "the generation may be in use")
    expect(sorted(rows) == sorted(["i", f"recovered-{ids['little']}", f"recovered-{ids['unsaved']}", "second"]), f"{sorted(rows)}")
    expect(rows["second"]["size_bytes"] == 128 << 20, f"{rows['second']}")
    back = os.path.join(c.root, "back")
    c.fb("image", "export", f"p/recovered-{ids['little']}", back)
    with open(os.path.join(c.root, "little"), "rb") as one, open(back, "rb") as other:
        expect(one.read() == other.read(4096), "the image that only logs know has other contents")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    c.fb("image", "create", "p/new", "--size", "64M")
    c.fb("bench", "p/new", "--rw", "randwrite", "--time", "1")
    result = c.hammer_result(c.hammer("run", background=True, time=2, blocks=2048))
    expect(result["errors"] == 0 and result["wrong"] == 0, f"hammer: {result}")


main(globals(), cluster=Movable, base=in_memory())
