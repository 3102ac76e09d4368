# SPDX-License-Identifier: Apache-2.0
"""File systems and a database on a block device made of nbdfuse and a loop device, while OSDs die. Needs root, /dev/fuse and loop."""
import os
import shutil
import subprocess
import threading
import time

from harness import expect, main, wait_for


def attach(c, uri):
    """Makes /dev/loopN of an NBD server; returns it."""
    directory = os.path.join(c.root, "fuse")
    os.mkdir(directory)
    path = os.path.join(directory, "nbd")
    c.start("nbdfuse", path, uri)
    wait_for("nbdfuse", lambda: os.path.exists(path) and os.path.getsize(path) > 0)
    return c.run("losetup", "--find", "--show", "--direct-io=on", path).strip()


def detach(c, device):
    """nbdfuse has mounted the directory; it ends when that is unmounted."""
    subprocess.run(["losetup", "-d", device], check=False)
    mount = os.path.join(c.root, "fuse")
    subprocess.run(["umount", mount], check=False, stderr=subprocess.DEVNULL)
    if os.path.ismount(mount):
        subprocess.run(["umount", "-l", mount], check=False)


def murder(c, ended):
    for victim in ("osd.1", "osd.0", "osd.2"):
        time.sleep(1.5)
        if ended.is_set():
            return
        c.kill(victim)
        time.sleep(1)
        c.start_process(victim)
        c.wait_active(timeout=60)


def file_system_test(c, make, check):
    c.pool_image(size="600M")
    server, uri = c.nbd()
    device = attach(c, uri)
    mount = os.path.join(c.root, "mnt")
    os.mkdir(mount)
    ended = threading.Event()
    thread = threading.Thread(target=murder, args=(c, ended))
    try:
        c.run(*make, device)
        c.run("mount", device, mount)
        thread.start()
        for n in range(3):
            shutil.copytree("/usr/include", os.path.join(mount, f"copy{n}"), symlinks=True)
            os.sync()
        database = os.path.join(mount, "test.db")
        import sqlite3
        db = sqlite3.connect(database)
        db.execute("create table t(id integer primary key, v blob)")
        for n in range(200):
            db.execute("insert into t(v) values (?)", (os.urandom(500),))
            db.commit()
        expect(db.execute("pragma integrity_check").fetchone()[0] == "ok", "the database is damaged")
        expect(db.execute("select count(*) from t").fetchone()[0] == 200, "rows are missing")
        db.close()
        shutil.rmtree(os.path.join(mount, "copy1"))
        c.run("fstrim", mount)
        ended.set()
        thread.join()
        c.run("umount", mount)
        c.run(*check, device)
        c.run("mount", device, mount)
        for n in (0, 2):
            c.run("diff", "-r", "--no-dereference", "/usr/include", os.path.join(mount, f"copy{n}"))
        c.run("umount", mount)
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()
        subprocess.run(["umount", mount], check=False, stderr=subprocess.DEVNULL)
        detach(c, device)
    server.terminate()
    expect(server.wait(30) == 0, f"fastblock-nbd: exit code {server.returncode}")


def test_ext4(c):
    file_system_test(c, ("mkfs.ext4", "-q"), ("e2fsck", "-fn"))


def test_xfs(c):
    file_system_test(c, ("mkfs.xfs", "-q"), ("xfs_repair", "-n"))


if __name__ == "__main__":
    if not os.path.exists("/dev/fuse") or os.geteuid() != 0 or not os.path.exists("/dev/loop-control"):
        print("1..0 # SKIP needs root, /dev/fuse and loop devices")
    else:
        main(globals())
