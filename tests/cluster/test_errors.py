# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in an administrator's hands: each ends with a message that says what to do and an exit code, and loses nothing."""
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from harness import BIN, expect, main, wait_for

SHARED = True


def refused(c, words, *args, code=1, user=None, timeout=30):
    """Runs a program that must end with this code and say these words on stderr."""
    if user:
        args = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups") + args
    c.run(*args, code=code, timeout=timeout)
    for word in words:
        expect(word in c.stderr, f"{' '.join(args)} does not say '{word}' but: {c.stderr}")


def mon(c, data, listen="127.0.0.1:0"):
    """Starts a monitor; returns (process, address)."""
    log = os.path.join(c.root, os.path.basename(data) + ".log")
    with open(log, "w") as f:
        child = c.start(os.path.join(BIN, "fastblock-mon"), "--listen", listen, "--data", data, stderr=f)

    def address():
        expect(child.poll() is None, "fastblock-mon ended")
        with open(log) as f:
            found = re.search(r"listening on (\S+): ", f.read())
        return found and found.group(1)
    return child, wait_for("the monitor", address)


def osd(c, device, address, ready=True):
    log = device + ".log"
    with open(log, "a") as f:
        at = f.tell()
        child = c.start(os.path.join(BIN, "fastblock-osd"), "run", device, "--mon", address, stderr=f)

    def serves():
        expect(child.poll() is None, "fastblock-osd ended")
        with open(log) as f:
            f.seek(at)
            return " serves " in f.read()
    if ready:
        wait_for("the OSD", serves)
    return child


def stop(child):
    child.send_signal(signal.SIGTERM)
    expect(child.wait(20) == 0, f"exit code {child.returncode}")


def path(c, name):
    return os.path.join(c.root, name)


def format_device(c, name, address):
    c.run(os.path.join(BIN, "fastblock-osd"), "format", path(c, name), "--size", "512M", "--mon", address)
    return path(c, name)


def device_bytes(device):
    with open(device, "rb") as f:
        return f.read(1 << 20)


MON, OSD, NBD = (os.path.join(BIN, "fastblock-" + name) for name in ("mon", "osd", "nbd"))


def test_monitor_directory(c):
    if os.getuid() == 0:
        os.chmod(c.root, 0o755)
        os.mkdir(path(c, "locked"), 0o755)
        refused(c, ["cannot use the data directory", "may write to"], MON, "--listen", "127.0.0.1:0", "--data", path(c, "locked"),
                user=65534)
        refused(c, ["cannot make the data directory"], MON, "--listen", "127.0.0.1:0", "--data", path(c, "locked/x"), user=65534)
    with open(path(c, "file"), "w") as f:
        f.write("precious")
    refused(c, ["is not a directory"], MON, "--listen", "127.0.0.1:0", "--data", path(c, "file"))
    os.mkdir(path(c, "junk"))
    with open(path(c, "junk/metadata.sqlite"), "w") as f:
        f.write("precious " * 1000)
    refused(c, ["is damaged, or not the metadata"], MON, "--listen", "127.0.0.1:0", "--data", path(c, "junk"))
    with open(path(c, "junk/metadata.sqlite")) as f:
        expect(f.read() == "precious " * 1000, "the file was changed")


def test_second_monitor(c):
    first, address = mon(c, path(c, "m1"))
    refused(c, ["another monitor runs on this data directory"], MON, "--listen", "127.0.0.1:0", "--data", path(c, "m1"))
    refused(c, ["another program listens there already", "use another port"], MON, "--listen", address, "--data", path(c, "m2"))
    stop(first)


def test_address_of_another_machine(c):
    """As after a machine got another address: what is wrong is not the connection to anybody."""
    words = ["cannot listen on 192.0.2.77", "no address of this machine"]
    refused(c, words, MON, "--listen", "192.0.2.77:7000", "--data", path(c, "m4"))
    first, address = mon(c, path(c, "m5"))
    refused(c, words, OSD, "run", format_device(c, "m5.dev", address), "--mon", address, "--listen", "192.0.2.77")
    refused(c, words, NBD, "p/i", "--tcp", "192.0.2.77:7000", "--mon", address)
    stop(first)


def test_port_is_free_soon(c):
    """A killed process keeps its port for a moment, as its io_uring does: the next one waits for it."""
    holder = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{holder.getsockname()[1]}"
    threading.Timer(0.5, holder.close).start()
    child, _ = mon(c, path(c, "m3"), address)
    stop(child)


def test_port_of_a_trial_cluster_is_taken(c):
    """Whoever listens there is not taken for the cluster's monitor."""
    c.kill("mon")
    host, port = c.env["FASTBLOCK_MON"].split(":")

    def taken():  # as soon as the kernel has let go of it
        try:
            return socket.create_server((host, int(port)))
        except OSError:
            return None
    with wait_for("the port", taken):
        for args in (("start", c.dir, "mon"), ("up", c.dir)):
            refused(c, ["something else listens on", "begin anew"], os.path.join(BIN, "fastblock"), "cluster", *args)
            expect(not any(p["running"] for p in c.processes() if p["name"] == "mon"), "it runs")
    c.start_process("mon")


def test_start_of_a_trial_cluster_is_killed(c):
    """Wherever that was, in particular while a device is being formatted, the next start goes on with it."""
    fastblock = os.path.join(BIN, "fastblock")
    for ms in range(30, 400, 60):
        where = path(c, f"killed{ms}")
        child = c.start(fastblock, "cluster", "up", where, "--size", "300M", "--osds", "2")
        time.sleep(ms / 1000)
        child.kill()
        child.wait()
        try:
            c.run(fastblock, "cluster", "up", where, timeout=20)
        finally:
            c.run(fastblock, "cluster", "down", where)
        shutil.rmtree(where)


def command_lines():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                yield f.read().decode(errors="replace")
        except OSError:
            pass


def test_pids_of_a_trial_cluster(c):
    """Nothing runs of which there is no pid file, and what is named by an old one is not taken for the daemon, though it has its files open."""
    fastblock, where = os.path.join(BIN, "fastblock"), path(c, "fastblock-x")
    os.makedirs(os.path.join(where, "mon.pid"))
    refused(c, ["mon ended at once", f"cannot write {where}/mon.pid"], fastblock, "cluster", "up", where, "--size", "300M", "--osds", "1")
    expect(not [line for line in command_lines() if "fastblock-mon" in line and where + "/mon" in line], "a daemon is left")
    os.rmdir(os.path.join(where, "mon.pid"))
    other = c.start("tail", "-f", os.path.join(where, "mon.log"), os.path.join(where, "mon"), stderr=subprocess.DEVNULL)
    with open(os.path.join(where, "mon.pid"), "w") as f:
        f.write(f"{other.pid}\n")
    c.run(fastblock, "cluster", "down", where)
    expect(other.poll() is None, "somebody else was ended")
    other.kill()
    other.wait()


def test_looking_at_a_trial_cluster(c):
    """It needs neither the lock nor leave to write: also while somebody starts or stops the cluster."""
    with open(os.path.join(c.dir, "lock"), "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        for what in ("status", "env"):
            c.run(os.path.join(BIN, "fastblock"), "cluster", what, c.dir, timeout=10)


def test_configuration_that_is_missing(c):
    saved = dict(c.env)
    c.env["FASTBLOCK_CONF"] = path(c, "no.conf")
    c.env.pop("FASTBLOCK_MON")
    try:
        words = ["FASTBLOCK_CONF", path(c, "no.conf") + ": No such file"]
        refused(c, words, os.path.join(BIN, "fastblock"), "status")
        refused(c, words, OSD, "format", path(c, "conf.dev"), "--size", "512M", code=2)
        refused(c, words, MON, "--listen", "127.0.0.1:0", "--data", path(c, "conf"), code=2)
        # What a container finds in the place of a file that was to be mounted and is missing.
        os.mkdir(path(c, "no.conf"))
        words = ["FASTBLOCK_CONF", path(c, "no.conf") + ": Is a directory"]
        refused(c, words, os.path.join(BIN, "fastblock"), "status")
        refused(c, words, MON, "--listen", "127.0.0.1:0", "--data", path(c, "conf"), code=2)
    finally:
        c.env.clear()
        c.env.update(saved)


def test_device_too_small(c):
    address = c.env["FASTBLOCK_MON"]
    refused(c, ["is too small", "at least", "Use a larger device"], OSD, "format", path(c, "tiny"), "--size", "1M", "--mon", address)
    expect(not os.path.exists(path(c, "tiny")), "a file was left behind")
    with open(path(c, "tiny2"), "w") as f:
        f.truncate(100 << 20)
    refused(c, ["is too small", "Use a larger device"], OSD, "format", path(c, "tiny2"), "--mon", address)
    refused(c, ["not a fastblock device", "`fastblock-osd format`"], OSD, "run", path(c, "tiny2"), "--mon", address)
    c.run(os.path.join(BIN, "fastblock"), "cluster", "up", path(c, "small"), "--size", "64M", code=2)
    expect("--size 64 MiB is too small for 1 shard" in c.stderr, c.stderr)
    expect(not os.path.exists(path(c, "small")), "a directory was left behind")


def test_another_cluster(c):
    """A device of one cluster at the monitor of another; and at one that lost its data."""
    first, address = mon(c, path(c, "a1"))
    device = format_device(c, "a.dev", address)
    stop(osd(c, device, address))
    before = device_bytes(device)
    refused(c, ["belongs to another cluster", "--mon", "start it on the original one"], OSD, "run", device, "--mon",
            c.env["FASTBLOCK_MON"], code=3)
    stop(first)
    empty, _ = mon(c, path(c, "a2"), address)
    refused(c, ["belongs to another cluster", "start it on the original one"], OSD, "run", device, "--mon", address, code=3)
    stop(empty)
    expect(device_bytes(device)[:64 << 10] == before[:64 << 10], "the label was changed")
    first, _ = mon(c, path(c, "a1"), address)
    stop(osd(c, device, address))
    stop(first)


def test_copy_of_a_device(c):
    """A copy is refused, however often it is tried, and the original is not harmed by it."""
    first, address = mon(c, path(c, "c1"))
    device = format_device(c, "c.dev", address)
    stop(osd(c, device, address))
    copy = path(c, "copy.dev")
    shutil.copyfile(device, copy)
    original = osd(c, device, address)
    refused(c, ["a copy", "Use the original"], OSD, "run", copy, "--mon", address, code=3)
    stop(original)
    for _ in range(3):
        refused(c, ["a copy", "Use the original"], OSD, "run", copy, "--mon", address, code=3)
    stop(osd(c, device, address))
    stop(first)


def crc32c(data):
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        table.append(n)
    crc = 0xffffffff
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xffffffff


def test_device_of_another_version(c):
    first, address = mon(c, path(c, "v1"))
    device = format_device(c, "v.dev", address)
    with open(device, "r+b") as f:
        for at in (0, 64 << 10):
            f.seek(at)
            label = bytearray(f.read(4096))
            crc = struct.unpack_from("<I", label, 12)[0]
            struct.pack_into("<I", label, 12, 0)
            expect(crc32c(label) == crc, "the test does not know the label's checksum")
            struct.pack_into("<I", label, 8, 99)
            struct.pack_into("<I", label, 12, crc32c(label))
            f.seek(at)
            f.write(label)
    before = device_bytes(device)
    refused(c, ["version", "run that version"], OSD, "run", device, "--mon", address)
    refused(c, ["another version of fastblock", "--force"], OSD, "format", device, "--mon", address)
    expect(device_bytes(device) == before, "the device was changed")
    stop(first)


def test_device_that_has_shrunk(c):
    """The partition is another one, or an array lacks a disk: nobody is told to format it, and it is not formatted by mistake."""
    first, address = mon(c, path(c, "s1"))
    device = format_device(c, "s.dev", address)
    size = os.path.getsize(device)
    os.truncate(device, size - (1 << 20))
    refused(c, ["larger", "do not format it"], OSD, "run", device, "--mon", address)
    refused(c, ["larger", "--force"], OSD, "format", device, "--mon", address)
    os.truncate(device, size)
    stop(osd(c, device, address))
    with open(device, "r+b") as f:
        for at in (0, 64 << 10):
            f.seek(at + 100)
            f.write(b"damage")
    refused(c, ["label is damaged", "--force"], OSD, "format", device, "--mon", address)
    stop(first)


def test_device_in_use(c):
    first, address = mon(c, path(c, "u1"))
    device = format_device(c, "u.dev", address)
    running = osd(c, device, address)
    refused(c, ["is in use"], OSD, "run", device, "--mon", address)
    refused(c, ["is in use"], OSD, "format", device, "--force", "--mon", address)
    stop(running)
    refused(c, ["is osd.0 of cluster", "--force"], OSD, "format", device, "--mon", address)
    stop(first)


def test_more_files_than_a_shell_allows(c):
    """An OSD has a connection, so an open file, for each shard and client: it takes what the system lets it."""
    first, address = mon(c, path(c, "f1"))
    device, limit = format_device(c, "f.dev", address), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limit[1]))
    try:
        running = osd(c, device, address)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    expect(resource.prlimit(running.pid, resource.RLIMIT_NOFILE)[0] == limit[1], "the limit is what it was")
    stop(running)
    stop(first)


def test_no_monitor(c):
    refused(c, ["no monitor answers at 127.0.0.1:1"], OSD, "format", path(c, "n.dev"), "--size", "512M", "--mon", "127.0.0.1:1")
    expect(not os.path.exists(path(c, "n.dev")), "a file was left behind")


if __name__ == "__main__":
    main(globals(), osds=1)
