# SPDX-License-Identifier: Apache-2.0
"""fastblock-nbd under the tools of others: libnbd, QEMU, fio."""
import json
import os
import signal
import subprocess
import threading
import time

from harness import expect, in_memory, main, wait_for
from nbd_cells import Client

SHARED = True


def setup(c):
    c.fb("pool", "create", "p", "--pgs", "16")
    c.wait_active()


def image(c, name, size="256M"):
    c.fb("image", "create", "p/" + name, "--size", size)
    return "p/" + name


def stop(child):
    child.terminate()
    expect(child.wait(20) == 0, f"fastblock-nbd: exit code {child.returncode}")


def test_nbdinfo(c):
    child, uri = c.nbd(image(c, "info", "64M"), "info")
    info = json.loads(c.run("nbdinfo", "--json", uri))
    export = info["exports"][0]
    expect(export["export-size"] == 64 << 20, f"size: {export}")
    for flag in ("can_multi_conn", "can_fua", "can_flush", "can_trim", "can_zero"):
        expect(export[flag], f"{flag}: {export}")
    expect(export["block_size_preferred"] == 4096, f"{export}")
    expect("base:allocation" in json.dumps(export["contexts"]), f"{export}")
    c.run("nbdinfo", "--list", uri)
    stop(child)


def test_nbdcopy_and_map(c):
    child, uri = c.nbd(image(c, "copy"), "copy")
    source, back = os.path.join(c.root, "nbd.src"), os.path.join(c.root, "nbd.back")
    with open(source, "wb") as f:
        f.write(os.urandom(20 << 20))
        f.seek(100 << 20)
        f.write(os.urandom(10 << 20))
        f.truncate(256 << 20)
    c.run("nbdcopy", "--flush", source, uri)
    extents = json.loads(c.run("nbdinfo", "--map", "--json", uri))
    data = sum(e["length"] for e in extents if e["type"] == 0)
    expect((30 << 20) <= data <= (34 << 20), f"{data} bytes of data by the map")
    c.run("nbdcopy", uri, back)
    c.run("cmp", source, back)
    stop(child)


def test_qemu_img_and_io(c):
    child, uri = c.nbd(image(c, "qemu", "64M"), "qemu")
    source = os.path.join(c.root, "q.src")
    with open(source, "wb") as f:
        f.write(os.urandom(64 << 20))
    c.run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri)
    c.run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)
    out = c.run("qemu-io", "-f", "raw", "-c", "write -P 0xa5 512 1536", "-c", "read -P 0xa5 512 1536", "-c", "write -z 1M 1M",
                "-c", "read -P 0 1M 1M", "-c", "discard 4M 2M", "-c", "read -P 0 4M 2M", "-c", "write -f -P 7 8191 2",
                "-c", "read -P 7 8191 2", "-c", "flush", uri)
    expect("failed" not in out and "error" not in out.lower(), out)
    stop(child)


def test_fio_verify(c):
    child, uri = c.nbd(image(c, "fio", "128M"), "fio")
    out = c.run("fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randrw", "--bsrange=512-64k", "--bs_unaligned=0",
                "--blockalign=512", "--iodepth=16", "--size=128M", "--io_size=96M", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0",
                "--time_based=0", "--output-format=terse", timeout=180)
    expect(out, "fio printed nothing")
    stop(child)


def test_says_how_long_requests_took(c):
    child, uri = c.nbd(image(c, "stages", "16M"), "stages")
    c.run("qemu-io", "-f", "raw", "-c", "write 0 4k", "-c", "read 0 4k", uri)
    child.send_signal(signal.SIGUSR1)

    def said():
        with open(os.path.join(c.dir, "stages.log")) as f:
            return f.read()
    wait_for("the figures", lambda: "sent again" in said())
    for line in ("sent until answered: reads", "sent until answered: writes"):
        expect(int(said().split(line)[1].split()[0]) >= 1, said())
    stop(child)


def test_flush_on_another_connection(c):
    """multi-conn: a FLUSH on one connection covers the writes that were answered on another."""
    child, uri = c.nbd(image(c, "multi", "64M"), "multi")
    script = f"""
import nbd
a, b = nbd.NBD(), nbd.NBD()
a.connect_uri({uri!r}); b.connect_uri({uri!r})
a.pwrite(b'x' * 4096, 0); b.flush()
assert b.pread(4096, 0) == b'x' * 4096
b.pwrite(b'y' * 1000, 500, nbd.CMD_FLAG_FUA)
assert a.pread(2000, 0) == b'x' * 500 + b'y' * 1000 + b'x' * 500
a.zero(4096, 0); assert b.pread(4096, 0) == bytes(4096)
try:
    a.pwrite(b'z' * 4096, {64 << 20})
    raise SystemExit('a write beyond the end was accepted')
except nbd.Error as e:
    pass
assert a.get_size() == {64 << 20}
a.shutdown(); b.shutdown()
"""
    c.run("/usr/bin/python3", "-c", script)  # Debian's own, which has libnbd's module
    stop(child)


def test_failures_are_in_the_log(c):
    """A client is told no more than "input/output error"."""
    name = image(c, "fails", "16M")
    child, uri = c.nbd(name, "fails", ["--timeout", "1"])
    pids = [c.pid(f"osd.{osd}") for osd in range(2)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        c.run("qemu-io", "-f", "raw", "-c", "write 4k 8k", uri, code=1)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    with open(os.path.join(c.dir, "fails.log")) as f:
        said = f.read()
    expect("write of 8192 bytes at 4096 failed: timed out" in said and "health detail" in said, said)
    stop(child)
    c.wait_active()


def test_read_only_and_second_writer(c):
    name = image(c, "ro", "16M")
    first, _ = c.nbd(name, "first")
    second, _ = c.nbd(name, "second", ready=False)
    expect(second.wait(20) == 1, "a second writer was accepted")
    reader, uri = c.nbd(name, "reader", ["--read-only"])
    expect(json.loads(c.run("nbdinfo", "--json", uri))["exports"][0]["is_read_only"], "not read-only")
    stop(reader)
    third, _ = c.nbd(name, "third", ["--force"])
    stop(third)
    first.terminate()
    first.wait(20)
    missing, _ = c.nbd("p/absent", "absent", ready=False)
    expect(missing.wait(20) == 1, "an image that does not exist was served")


def test_restart_under_the_same_name(c):
    """fastblock-nbd is killed and started again on its socket: it is the same writer, no force is needed."""
    name = image(c, "again", "64M")
    child, uri = c.nbd(name, "again")
    c.run("qemu-io", "-f", "raw", "-c", "write -P 0x11 0 1M", uri)
    child.kill()
    child.wait()
    child, uri = c.nbd(name, "again")
    wait_for("the new server", lambda: subprocess.run(["nbdinfo", uri], env=c.env, capture_output=True, check=False).returncode == 0)
    c.run("qemu-io", "-f", "raw", "-c", "read -P 0x11 0 1M", "-c", "write -P 0x22 0 1M", uri)
    stop(child)


def test_verify_while_osds_die(c):
    child, uri = c.nbd(image(c, "die", "128M"), "die")
    ended = threading.Event()

    def murder():
        for victim in ("osd.0", "osd.1", "osd.2"):
            time.sleep(1.0)
            c.kill(victim)
            time.sleep(0.7)
            c.start_process(victim)
            c.wait_active(timeout=60)
            if ended.is_set():
                return
    thread = threading.Thread(target=murder)
    thread.start()
    try:
        c.run("fio", "--name=v", "--ioengine=nbd", f"--uri={uri}", "--rw=randwrite", "--bs=4k", "--iodepth=16", "--size=128M",
              "--io_size=64M", "--rate_iops=4000", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", timeout=180)
    finally:
        ended.set()
        thread.join()
    stop(child)


def beside_each_other(c, name, cell, args, harm):
    """Three connections write side by side in the same blocks, while harm(start) is done, which may kill fastblock-nbd and start it again."""
    name = image(c, name, "16M")
    servers = []

    def start():
        if servers:
            servers[-1].kill()
            servers[-1].wait()
        servers.append(c.nbd(name, "cells", args, ready=False)[0])
    start()
    seed = time.time_ns()
    print(f"# seed {seed}")
    clients = [Client(os.path.join(c.root, "cells.sock"), 16 << 20, cell, number, 3, seed) for number in range(3)]
    for client in clients:
        client.start()
    try:
        harm(start)
    finally:
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join(120)
    c.wait_active()
    for client in clients:
        print(f"# {client.answered} answered, {client.repeated} repeated, {client.failed} failed")
        expect(not client.is_alive() and not client.wrong, f"{client.wrong}")
        wrong = client.check()
        expect(not wrong, f"at the end: {wrong}")
    stop(servers[-1])
    return clients


def test_repeats_what_was_not_answered(c):
    """As the kernel does when fastblock-nbd is killed and started again. OSDs die meanwhile."""
    def harm(start):
        for victim in ("osd.0", "osd.1", "osd.2"):
            time.sleep(0.7)
            start()
            c.kill(victim)
            time.sleep(0.7)
            start()
            c.start_process(victim)
            time.sleep(0.7)
    clients = beside_each_other(c, "cells", 700, (), harm)
    expect(all(client.repeated and not client.failed for client in clients), "nothing was repeated, or something failed")


def test_what_failed_stays_away(c):
    """A write that timed out while two of three OSDs were stopped may have been made or not. What is written after it stays."""
    def harm(start):
        for first, second in ((0, 1), (1, 2), (2, 0)):
            pids = [c.pid(f"osd.{first}"), c.pid(f"osd.{second}")]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(2.5)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.3)
            time.sleep(1.0)
    clients = beside_each_other(c, "failing", 9001, ("--timeout", "1"), harm)
    expect(any(client.failed for client in clients), "nothing failed")


if __name__ == "__main__":
    main(globals(), base=in_memory())
