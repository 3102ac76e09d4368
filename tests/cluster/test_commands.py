# SPDX-License-Identifier: Apache-2.0
"""The command line as users type it: the main job, and what goes wrong."""
import hashlib
import json
import os
import select
import signal
import socket
import struct
import subprocess

from harness import BIN, Failure, expect, main, wait_for

SHARED = True


def setup(c):
    c.pool_image("p", "p/i", size="64M")


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def refused(c, *args, code=1, says=()):
    """A command that must fail with this exit code and name these things on stderr."""
    c.fb(*args, code=code)
    for word in (says,) if isinstance(says, str) else says:
        expect(word in c.stderr, f"`fastblock {' '.join(args)}` says {c.stderr!r}, which lacks {word!r}")


def test_status_of_a_new_cluster(c):
    status = c.json("status")
    expect(status["osds"] == 3 and status["osds_up"] == 3 and status["free_bytes"] > 0, f"status: {status}")
    processes = c.json("cluster", "status", c.dir)
    expect([p["name"] for p in processes] == ["mon", "osd.0", "osd.1", "osd.2"], f"cluster status: {processes}")
    for p in processes:
        expect(p["running"] and p["pid"] > 1 and ":" in p["address"] and p["role"] in ("mon", "osd"), f"process: {p}")
    env = c.fb("cluster", "env", c.dir)
    expect("export FASTBLOCK_MON=" in env, env)


def test_pool_ls_and_pg_ls(c):
    pools = c.json("pool", "ls")
    expect(pools[0]["name"] == "p" and pools[0]["replicas"] == 3 and pools[0]["pgs"] == 16, f"pools: {pools}")
    pgs = c.json("pg", "ls")
    expect(len(pgs) == 16, f"{len(pgs)} PGs")
    for pg in pgs:
        expect(len(set(pg["members"])) == 3 and pg["state"] == "active", f"pg: {pg}")
    leaders = [pg["leader"] for pg in pgs]
    expect(max(leaders.count(osd) for osd in range(3)) <= 12, f"leaders are uneven: {leaders}")


def test_import_export_is_byte_exact(c):
    source, back = os.path.join(c.root, "source"), os.path.join(c.root, "back")
    with open(source, "wb") as f:
        f.write(os.urandom(5 << 20))
        f.seek(40 << 20)
        f.write(os.urandom((3 << 20) + 12345))
    expect(c.fb("image", "import", source, "p/copy").startswith(f"p/copy imported from {source}, 43 MiB"), "import says what it did")
    expect(c.json("image", "export", "p/copy", back) == {"image": "p/copy", "size_bytes": (os.path.getsize(source) + 4095) // 4096 * 4096}, "export")
    written = c.json("image", "du", "p/copy")["written_bytes"]
    expect(8 << 20 < written <= 9 << 20, f"the hole counts as written: {written}")
    expect("GiB" not in c.fb("image", "du", "p/copy"), "image du")
    size = os.path.getsize(source)
    info = c.json("image", "info", "p/copy")
    expect(info["size_bytes"] == (size + 4095) // 4096 * 4096, f"info: {info}")
    with open(back, "r+b") as f:
        tail = f.read()[size:]
        expect(tail.strip(b"\0") == b"", "the tail is not zero")
        f.truncate(size)
    expect(sha(source) == sha(back), "import and export differ")
    expect(os.stat(back).st_blocks * 512 < 20 << 20, f"the hole was not kept: {os.stat(back).st_blocks * 512} bytes")


def test_import_export_by_pipe(c):
    data = os.urandom(3 << 20) + bytes(4 << 20) + os.urandom(4096)
    path = os.path.join(BIN, "fastblock")
    said = subprocess.run([path, "image", "import", "-", "p/pipe", "--size", "16M"], env=c.env, input=data, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    expect(said == b"p/pipe imported from standard input, 7 MiB\n", f"{said}")
    out = subprocess.run([path, "image", "export", "p/pipe", "-"], env=c.env, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    expect(len(out) == 16 << 20 and out[:len(data)] == data and out[len(data):].strip(b"\0") == b"", "the pipe changed data")


def test_import_of_what_becomes_shorter(c):
    """An image that lacks the end of its file is no success: here the file is cut while writes are held."""
    source = os.path.join(c.root, "shorter")
    with open(source, "wb") as f:
        f.write(os.urandom(40 << 20))
    c.fb("cluster", "set", "pause")
    child = c.start(os.path.join(BIN, "fastblock"), "image", "import", source, "p/shorter", stderr=subprocess.PIPE)
    wait_for("the image to be there", lambda: any(i["name"] == "shorter" for i in c.json("image", "ls", "p")), 10)
    os.truncate(source, 1 << 20)
    c.fb("cluster", "unset", "pause")
    said = child.communicate(timeout=60)[1]
    expect(child.returncode == 1 and b"has become shorter" in said, f"{child.returncode} {said}")


def test_import_of_a_device_without_a_size(c):
    """It takes any seek, and is not empty for that."""
    refused(c, "image", "import", "/dev/zero", "p/endless", code=2, says="--size")
    refused(c, "image", "import", "/dev/zero", "p/endless", "--size", "4M", says=("larger than the image", "p/endless is not complete"))
    c.fb("image", "rm", "p/endless")


def test_export_of_what_shrinks(c):
    """It ends where the image does, and says so."""
    source = os.path.join(c.root, "shrinks")
    with open(source, "wb") as f:
        f.write(os.urandom(48 << 20))
        f.truncate(1 << 30)
    c.fb("image", "import", source, "p/shrinks")
    export = c.start(os.path.join(BIN, "fastblock"), "image", "export", "p/shrinks", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    export.stdout.read(1)
    c.fb("image", "resize", "p/shrinks", "--size", "600M", "--yes-lose-data")
    said = export.communicate(timeout=60)[1]
    expect(export.returncode == 1 and b"become smaller" in said, f"{export.returncode} {said}")
    c.fb("image", "rm", "p/shrinks")


def test_resize(c):
    c.fb("image", "create", "p/r", "--size", "8M")
    c.fb("image", "resize", "p/r", "--size", "32M")
    expect(c.json("image", "info", "p/r")["size_bytes"] == 32 << 20, "not grown")
    source = os.path.join(c.root, "r")
    with open(source, "wb") as f:
        f.write(os.urandom(32 << 20))
    c.fb("image", "import", source, "p/r", "--overwrite")
    refused(c, "image", "resize", "p/r", "--size", "5M", says=("32 MiB", "lost for good", "--yes-lose-data"))
    expect(c.json("image", "info", "p/r")["size_bytes"] == 32 << 20, "shrunk without being meant")
    c.fb("image", "resize", "p/r", "--size", "5M", "--yes-lose-data")
    c.fb("image", "resize", "p/r", "--size", "32M")
    out = os.path.join(c.root, "r.out")

    def export():
        c.fb("image", "export", "p/r", out, "--overwrite")
        with open(source, "rb") as a, open(out, "rb") as b:
            want, have = a.read(), b.read()
        expect(have[:5 << 20] == want[:5 << 20], "what remained has changed")
        return have[5 << 20:].strip(b"\0") == b""
    wait_for("what was cut off to read as zeros", export, 10)


def test_image_rm_frees_space(c):
    def used():
        return sum(o["used_bytes"] for o in c.json("osd", "ls"))
    source = os.path.join(c.root, "big")
    with open(source, "wb") as f:
        f.write(os.urandom(48 << 20))
    before = used()
    c.fb("image", "import", source, "p/big")
    taken = wait_for("the space to be taken", lambda: max(used() - before - 2 * (48 << 20), 0), 60) + before + 2 * (48 << 20)
    c.fb("image", "rm", "p/big")
    expect(all(i["name"] != "big" for i in c.json("image", "ls")), "still listed")
    # What tests before this one wrote goes on coming from the logs to the devices.
    wait_for("the space to be freed", lambda: used() < taken - 2 * (48 << 20), 60)


def test_bench_prints_figures(c):
    for rw in ("randwrite", "randread", "randrw", "write", "read"):
        result = c.json("bench", "p/i", "--rw", rw, "--time", "1", "--qd", "8")
        part = result["read" if rw in ("randread", "read") else "write"]
        expect(part["iops"] > 10 and part["p50_us"] > 1 and part["p999_us"] >= part["p99_us"] >= part["p50_us"], f"{rw}: {result}")
    expect(c.json("bench", "p/i", "--time", "1")["rw"] == "randread", "what is there is overwritten without being asked for")


def test_demote_moves_leaders(c):
    c.fb("osd", "demote", "osd.0")
    expect(0 not in c.leaders().values(), f"osd.0 still leads: {c.leaders()}")
    pg = c.json("pg", "ls")[0]["pg"]
    c.fb("pg", "leader", pg, "osd.0")
    wait_for("the leadership to move", lambda: c.leaders()[pg] == 0, 10)


def catches(child, number):
    """Does the process have a handler for this signal?"""
    with open(f"/proc/{child.pid}/status", encoding="ascii") as f:
        caught = next(line.split()[1] for line in f if line.startswith("SigCgt"))
    return int(caught, 16) >> (number - 1) & 1


def test_interrupted_twice(c):
    """What a command waits for may take long: reads wait while the cluster is paused. The second interrupt ends it."""
    data = os.path.join(c.root, "held")
    with open(data, "wb") as f:
        f.write(os.urandom(1 << 20))
    c.fb("image", "import", data, "p/held")
    c.fb("cluster", "set", "pause")
    try:
        export = c.start(os.path.join(BIN, "fastblock"), "image", "export", "p/held", os.path.join(c.root, "back-held"))
        wait_for("the file", lambda: os.path.exists(os.path.join(c.root, "back-held")), 10)
        export.send_signal(signal.SIGINT)
        wait_for("the first interrupt", lambda: not catches(export, signal.SIGINT), 10)
        expect(export.poll() is None, "it ended though its reads are under way")
        export.send_signal(signal.SIGINT)
        expect(export.wait(timeout=10) == -signal.SIGINT, f"exit code {export.returncode}")
    finally:
        c.fb("cluster", "unset", "pause")
    c.fb("image", "rm", "p/held")


def test_demote_is_interrupted(c):
    """Then nobody knows that the OSD can be stopped: the monitor has not said yet what it leads."""
    mon = c.pid("mon")
    os.kill(mon, signal.SIGSTOP)
    demote = c.start(os.path.join(BIN, "fastblock"), "osd", "demote", "osd.0", stderr=subprocess.PIPE, text=True)
    wait_for("the command to take signals", lambda: catches(demote, signal.SIGTERM), 3, pause=0.01)
    demote.send_signal(signal.SIGTERM)
    os.kill(mon, signal.SIGCONT)
    _, said = demote.communicate(timeout=30)
    expect(demote.returncode == 1 and "interrupted" in said, f"exit code {demote.returncode}: {said}")


def test_wrong_usage(c):
    refused(c, "frobnicate", code=2, says="frobnicate")
    refused(c, "--mon", "127.0.0.1:1", "status", code=2, says="come after the command")
    refused(c, "image", "create", "p/x", code=2, says="--size")
    refused(c, "image", "create", "nopool", "--size", "1M", code=2, says="POOL/IMAGE")
    refused(c, "image", "create", "p/x", "--size", "banana", code=2, says="banana")
    refused(c, "bench", "p/i", "--rw", "sideways", code=2, says="sideways")
    refused(c, "pg", "leader", "zzz", "osd.0", code=2, says="zzz")
    refused(c, "pool", "ls", "--nonsense", code=2, says="--nonsense")
    refused(c, "image", "lst", code=2, says=("image lst", "image ls"))
    refused(c, "image", code=2, says="image ls")
    refused(c, "help", "frobnicate", code=2, says="frobnicate")
    c.fb("--help")
    c.fb("--version")
    help_text = c.fb("image", "create", "--help")
    expect("--size" in help_text and help_text == c.fb("help", "image", "create"), "help of a command")
    expect(c.fb("help", "image") == c.fb("image", "--help"), "help of a group")


def test_completion(c):
    """Bash offers every command once, its options, and files only where one may stand."""
    script = ["source <(fastblock completion)", 'comp() { COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); COMPREPLY=(); _fastblock; echo "${COMPREPLY[*]}"; }',
              "cd /", 'comp fastblock ""', 'comp fastblock osd ""', "comp fastblock image create --s", "comp fastblock image import et"]
    first, osd, option, file = c.run("bash", "-c", "\n".join(script)).split("\n")[:4]
    expect(len(set(first.split())) == len(first.split()) and {"status", "osd", "pool", "image", "bench"} <= set(first.split()), first)
    expect({"ls", "tree", "drain", "demote", "remove"} <= set(osd.split()), osd)
    expect(option == "--size" and file == "etc", f"{option}, {file}")


def test_refusals_name_thing_and_remedy(c):
    refused(c, "image", "info", "p/absent", says="absent")
    refused(c, "image", "info", "nopool/i", says="nopool")
    refused(c, "image", "create", "p/i", "--size", "1M", says="i")
    refused(c, "image", "create", "p/zero", "--size", "0", says="4 KiB")
    refused(c, "image", "create", "p/odd", "--size", "5000", says="4")
    refused(c, "image", "create", "p/huge", "--size", "9000P")
    refused(c, "image", "create", "p/bad name", "--size", "1M")
    refused(c, "pool", "create", "p", says="p")
    refused(c, "pool", "create", "five", "--replicas", "5", says="5")
    refused(c, "pool", "create", "hosts", "--failure-domain", "host", says="host")
    refused(c, "pool", "rm", "p", says="image")
    refused(c, "pool", "rm", "absent", says="absent")
    refused(c, "osd", "demote", "osd.77", says="77")
    refused(c, "pg", "leader", "1.0", "osd.77")
    refused(c, "image", "import", "/nonexistent/file", "p/x", says="/nonexistent/file")
    refused(c, "image", "import", "/tmp", "p/x", says="is a directory")
    refused(c, "image", "export", "p/i", "/nonexistent/dir/file", says="/nonexistent/dir/file")
    refused(c, "image", "rm", "p/absent", says="absent")
    refused(c, "image", "du", "p/absent", says="absent")
    refused(c, "mon", "rm", "10.0.0.1:7000", says="fastblock mon ls")
    refused(c, "mon", "rm", c.env["FASTBLOCK_MON"], says="not yet possible, waiting")
    expect("cannot remove monitor" in c.stderr and c.stderr.count("runs: stop it first") == 2, c.stderr)
    c.fb("pg", "acknowledge", "--all")
    expect("nothing left to acknowledge" in c.stderr, c.stderr)
    c.fb("pool", "create", "two", "--replicas", "2", "--pgs", "1")
    expect(c.stderr.startswith("fastblock: warning: with 2"), c.stderr)
    c.fb("pool", "rm", "two")


def test_osds_in_and_out(c):
    """What operators say of OSDs; with three OSDs and three replicas nothing can move."""
    osds = c.json("osd", "tree")
    expect([o["id"] for o in osds] == [0, 1, 2] and all(o["up"] and o["in"] and o["weight"] == 1 for o in osds), f"{osds}")
    expect(all("full_percent" in o and o["replicas"] == 16 for o in c.json("osd", "df")), "osd df")
    c.fb("osd", "reweight", "osd.1", "0.5")
    expect(c.json("osd", "ls")[1]["weight"] == 0.5, "the weight")
    c.fb("osd", "reweight", "osd.1", "1")
    refused(c, "osd", "reweight", "osd.1", "1.5", code=2, says="1.5")
    refused(c, "osd", "out", "osd.9", says="osd.9")
    refused(c, "osd", "out", "nine", code=2, says="nine")
    refused(c, "osd", "remove", "osd.1", says=("16 PGs", "fastblock osd drain osd.1"))
    c.fb("osd", "out", "osd.1")
    wait_for("the PGs to be stuck", lambda: any(p["code"] == "PG_STUCK" for p in c.json("health", "detail")["problems"]), 20)
    codes = {p["code"]: p for p in c.json("health", "detail")["problems"]}
    expect("OSD_OUT" in codes and codes["OSD_OUT"]["since_us"] > 0 and codes["PG_STUCK"]["todo"], f"{codes}")
    expect("PG_STUCK (warning), since" in c.fb("health", "detail"), "health detail")
    refused(c, "osd", "drain", "osd.1", says=("16 replicas", "add OSDs"))
    c.fb("osd", "in", "osd.1")
    wait_for("the health to be good", lambda: c.json("status")["health"] == "ok", 20)


def test_flags_and_hosts(c):
    for flag in ("noout", "norebalance", "pause"):
        c.fb("cluster", "set", flag)
        expect(c.json("status")[flag] is True, flag)
        c.fb("cluster", "unset", flag)
        expect(c.json("status")[flag] is False, flag)
    refused(c, "cluster", "set", "nothing", code=2, says="noout")
    host = c.json("osd", "ls")[0]["host"]
    c.fb("host", "maintenance", host, "on")
    expect(all(o["maintenance"] for o in c.json("osd", "ls")), "maintenance")
    c.fb("host", "maintenance", host, "off")
    refused(c, "host", "maintenance", "nowhere", "on", says="nowhere")
    refused(c, "host", "maintenance", host, "maybe", code=2, says="maybe")


def test_events_and_moves(c):
    c.fb("cluster", "set", "noout")
    c.fb("cluster", "unset", "noout")
    events = c.fb("events")
    expect("osd.0 is new" in events and "flag noout is set" in events and "pool 'p'" in events, events)
    follow = c.start(os.path.join(BIN, "fastblock"), "events", "--follow", stdout=subprocess.PIPE, text=True)
    c.fb("cluster", "set", "norebalance")
    for line in follow.stdout:
        if "norebalance is set" in line:
            break
    follow.terminate()
    follow.wait(10)
    c.fb("cluster", "unset", "norebalance")
    expect(c.json("rebalance", "plan") == [], "nothing is to be moved")
    moves = c.json("rebalance", "status")
    expect(moves["under_way"] == 0 and moves["moves_max"] == 4, f"{moves}")
    c.fb("rebalance", "limit", "2")
    expect("limit    2 PGs" in c.fb("rebalance", "status"), "the limit")
    c.fb("rebalance", "limit", "0")
    refused(c, "rebalance", "limit", "many", code=2, says="many")


def test_output_that_nobody_takes(c):
    fastblock = os.path.join(BIN, "fastblock")
    follow = c.start(fastblock, "events", "--follow", stdout=subprocess.PIPE)
    follow.stdout.readline()
    follow.stdout.close()
    follow.wait(timeout=10)
    with open("/dev/full", "wb") as full:
        child = c.start(fastblock, "events", stdout=full, stderr=subprocess.PIPE)
        said = child.communicate(timeout=10)[1]
    expect(child.returncode == 1 and b"standard output" in said, f"{child.returncode} {said}")


def test_pool_set(c):
    refused(c, "pool", "set", "p", "--replicas", "2", says=("majority", "--yes-no-failover"))
    refused(c, "pool", "set", "p", "--replicas", "5", says="add OSDs")
    refused(c, "pool", "set", "absent", "--replicas", "3", says="absent")
    refused(c, "pool", "set", "p", code=2, says="--replicas")
    c.fb("pool", "set", "p", "--replicas", "2", "--yes-no-failover")
    wait_for("two replicas", lambda: all(len(pg["members"]) == 2 for pg in c.json("pg", "ls")), 30)
    c.fb("pool", "set", "p", "--replicas", "3")
    wait_for("three replicas", lambda: all(len(pg["members"]) == 3 and not pg["wanted"] for pg in c.json("pg", "ls")), 30)
    c.wait_active()


def test_no_monitor(c):
    refused(c, "status", "--mon", "127.0.0.1:1", says="127.0.0.1:1")
    refused(c, "status", "--mon", "not an address")
    env = c.env.pop("FASTBLOCK_MON")
    try:
        refused(c, "status", code=1, says="FASTBLOCK_MON")
    finally:
        c.env["FASTBLOCK_MON"] = env


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def senseless_answer(request):
    """To the last frame of these bytes: a frame that is right (wire/frame.h), with a body that is no message."""
    number = struct.unpack_from("<Q", request, request.rindex(b"FBBK") + 16)[0]

    def frame(checksum):
        return b"FBBK" + struct.pack("<HHHHiQIIIIII", 1, 64, 2, 48, 0, number, 1, 0, 0, 0, checksum, 0) + b"\xff"
    return frame(crc32c(frame(0)))


def answer_instead(c, answer):
    """What `image create` says when the monitor's answer is lost, or another one comes in its place."""
    host, port = c.env["FASTBLOCK_MON"].rsplit(":", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        create = c.start(os.path.join(BIN, "fastblock"), "image", "create", "p/unanswered", "--size", "8M", "--mon",
                         f"127.0.0.1:{server.getsockname()[1]}", stderr=subprocess.PIPE, text=True)
        server.settimeout(10)
        client, _ = server.accept()
        with client, socket.create_connection((host, int(port))) as mon:
            asked = None
            while not asked:
                for ready in select.select([client, mon], [], [], 10)[0]:
                    data = ready.recv(1 << 16)
                    expect(data, "the connection ended")
                    (mon if ready is client else client).sendall(data)
                    if ready is client and b"unanswered" in data:
                        asked = data
            wait_for("the image", lambda: "p/unanswered" in c.fb("image", "ls", "p"), 10)
            if answer:
                client.sendall(answer(asked))
    said = create.communicate(timeout=30)[1]
    expect(create.returncode == 1 and "p/unanswered" in said, f"{create.returncode}: {said}")
    c.fb("image", "rm", "p/unanswered")
    return said


def test_answer_is_lost(c):
    """What was ordered may have been done then, and the command says so. Here it was."""
    said = answer_instead(c, None)
    expect("may or may not have been done" in said, said)
    said = answer_instead(c, senseless_answer)
    expect("malformed message" in said and "may have been done" in said, said)


def test_second_writer(c):
    c.fb("image", "create", "p/w", "--size", "64M")
    first = c.hammer("run", "p/w", "w.state", background=True, time=20, blocks=512)
    wait_for("the first writer", lambda: c.json("image", "info", "p/w")["writer"], 10)
    refused(c, "bench", "p/w", "--rw", "randwrite", "--time", "1", says="--force")
    second = c.hammer("run", "p/w", "w.state2", time=2, blocks=512, reads=0, force=1)
    expect(second["writes"] > 0 and second["errors"] == 0, f"the second writer: {second}")
    result = c.hammer_result(first, errors=True)
    expect(result["first_error"] == -108, f"the first writer was not fenced: {result}")


def test_osd_devices_are_guarded(c):
    osd = os.path.join(BIN, "fastblock-osd")
    mon = c.env["FASTBLOCK_MON"]
    small = os.path.join(c.root, "small")
    c.run(osd, "format", small, "--mon", mon, "--host", "h", "--rack", "r", "--zone", "z", "--size", "1M", code=1)
    expect("small" in c.stderr, f"too small: {c.stderr!r}")
    device = os.path.join(c.dir, "osd.0", "device")
    c.run(osd, "format", device, "--mon", mon, code=1)
    c.run(osd, "run", device, "--mon", mon, "--listen", "127.0.0.1", code=1, timeout=20)
    expect("use" in c.stderr or "lock" in c.stderr, f"in use: {c.stderr!r}")
    junk = os.path.join(c.root, "junk")
    with open(junk, "wb") as f:
        f.write(os.urandom(1 << 20) * 300)
    c.run(osd, "run", junk, "--mon", mon, "--host", "h", "--rack", "r", "--zone", "z", "--listen", "127.0.0.1", code=1, timeout=20)
    expect("fastblock" in c.stderr, f"not a device: {c.stderr!r}")


def test_store_check_of_a_stopped_osd(c):
    device = os.path.join(c.dir, "osd.2", "device")
    refused(c, "store", "check", device, says="osd.2")
    expect(c.json("cluster", "stop", c.dir, "osd.2") == {"stopped": "osd.2"}, "cluster stop")
    try:
        out = c.fb("store", "check", device, "--deep")
        expect("0 problems" in out, out)
        out = c.json("store", "show", device)
        expect(out["osd"] == 2 and out["objects"] + out["log_entries"] > 0, f"show: {out}")
    finally:
        started = c.json("cluster", "start", c.dir, "osd.2")
    expect(started == {"name": "osd.2", "pid": c.pid("osd.2")}, f"cluster start: {started}")
    c.wait_active()


def test_down_and_up_keeps_data(c):
    source = os.path.join(c.root, "keep")
    with open(source, "wb") as f:
        f.write(os.urandom(8 << 20))
    c.fb("image", "import", source, "p/keep")
    expect(c.json("cluster", "down", c.dir) == {"stopped": os.path.realpath(c.dir)}, "cluster down")
    expect(not any(p["running"] for p in c.processes()), "something still runs")
    processes = c.json("cluster", "up", c.dir)
    expect(len(processes) == 4 and all(p["running"] for p in processes), f"cluster up --json: {processes}")
    back = os.path.join(c.root, "keep.out")
    c.fb("image", "export", "p/keep", back)
    expect(sha(source) == sha(back), "the data changed")


def test_a_full_disk_leaves_the_description(c):
    """What a cluster is stays what it was when the new description cannot be written; here for want of leave to write."""
    c.run("bash", "-c", f"ulimit -f 0; exec fastblock cluster up {c.dir} --osds 4", code=None)
    expect(c.code, "it was written")
    expect(len(c.json("cluster", "status", c.dir)) == 4, "the monitor and three OSDs")


def test_perf_shows_every_stage(c):
    before = {osd: c.json("perf", f"osd.{osd}")[0] for osd in range(3)}
    bench = c.json("bench", "p/i", "--rw", "randwrite", "--qd", "16", "--time", "2")
    c.fb("bench", "p/i", "--rw", "randread", "--qd", "4", "--time", "1")
    after = {osd: c.json("perf", f"osd.{osd}")[0] for osd in range(3)}
    written = round(bench["write"]["iops"] * bench["seconds"])

    def counted(name, kind="counters", field=None):
        """What the OSDs counted together meanwhile."""
        values = [[p[osd][kind].get(name, {"count": 0} if field else 0) for osd in range(3)] for p in (before, after)]
        sums = [sum(v[field] if field else v for v in row) for row in values]
        return sums[1] - sums[0]

    expect(abs(counted("osd.writes") - written) <= 1, f"{written} writes, {counted('osd.writes')} counted")
    expect(counted("store.payload_bytes") == 3 * 4096 * counted("osd.writes"), "three replicas of every payload")
    for stage in ("write_receive", "write_propose", "write_commit", "write_reply", "write_total"):
        got = counted("osd." + stage, "histograms", "count")
        expect(got == counted("osd.writes"), f"{stage}: {got} of {counted('osd.writes')} writes")
    got, appends = counted("osd.append_receive", "histograms", "count"), counted("osd.appends_received")
    expect(got == appends, f"{got} of {appends} APPENDs are measured")
    expect(counted("store.log_write", "histograms", "count") == counted("store.batches"), "each log batch is measured")
    expect(counted("osd.log_durable", "histograms", "count") > 0, "marks")
    leaders = set(c.leaders().values())
    for osd, perf in after.items():
        stages, derived = perf["histograms"], perf["derived"]
        followers = [name for name in stages if name.startswith("osd.append_ack ")]
        expect(osd not in leaders or len(followers) == 2, f"osd.{osd} leads and shows the followers {followers}")
        expect(stages["osd.write_commit"]["mean_us"] <= stages["osd.write_total"]["mean_us"], f"osd.{osd}: {stages}")
        counters = perf["counters"]
        expect(abs(derived["device_amplification"] - counters["core.blk_bytes_written"] / counters["store.payload_bytes"]) < 1e-3, f"{derived}")
        expect(derived["log_amplification"] > 1 and derived["device_amplification"] >= derived["log_amplification"], f"{derived}")
        expect(derived["entries_per_batch"] >= 1 and derived["syscalls_per_request"] > 0, f"{derived}")
    client = bench["client"]
    expect(client["write"]["count"] == written and client["wait"]["count"] == written, f"client: {client}")
    expect(0 < client["write"]["p50_us"] <= bench["write"]["p50_us"] * 1.1, f"client: {client}, {bench['write']}")


def test_perf_of_an_image(c):
    """What the leaders of an image's PGs counted of its requests, and of nobody else's."""
    c.fb("image", "create", "p/seen", "--size", "64M")
    c.fb("image", "create", "p/other", "--size", "64M")
    bench = c.json("bench", "p/seen", "--rw", "randwrite", "--qd", "16", "--time", "1")
    c.fb("bench", "p/other", "--rw", "randwrite", "--qd", "4", "--time", "1")
    written = round(bench["write"]["iops"] * bench["seconds"])
    perf = c.json("perf", "p/seen")
    expect(abs(perf["writes"] - written) <= 1 and perf["write_bytes"] == 4096 * perf["writes"], f"{written} writes: {perf}")
    expect(perf["reads"] == 0 and perf["read"]["p50_us"] == 0, f"{perf}")
    for rows in ("shards", "pgs"):
        expect(sum(row["writes"] for row in perf[rows]) == perf["writes"], f"{rows}: {perf[rows]}")
    leaders = c.leaders()
    expect({row["pg"]: row["osd"] for row in perf["pgs"]} == {pg: leaders[pg] for pg in leaders if pg in [r["pg"] for r in perf["pgs"]]}, "leaders")
    stages = sum(perf[stage + "_mean_us"] for stage in ("propose", "commit", "reply"))
    expect(abs(stages - perf["write_mean_us"]) <= 0.01 * stages, f"the stages are not all of it: {perf}")
    expect(0.85 * perf["write"]["p50_us"] <= bench["write"]["p50_us"] and perf["write"]["p50_us"] <= perf["write"]["p99_us"], f"{perf['write']}, {bench}")
    expect(all(row["ping_us"] > 0 and row["log_p50_us"] > 0 for row in perf["shards"] if row["writes"]), f"{perf['shards']}")
    # Only what happens from now on.
    child = c.start(os.path.join(BIN, "fastblock"), "bench", "p/seen", "--rw", "randread", "--time", "4")
    wait_for("reads", lambda: c.json("perf", "p/seen")["reads"] > 0)
    perf = c.json("perf", "p/seen", "--time", "1")
    expect(perf["writes"] == 0 and perf["reads"] > 0 and perf["read"]["p50_us"] > 0 and perf["write"]["p50_us"] == 0, f"{perf}")
    expect(child.wait(30) == 0, "bench")
    text = c.fb("perf", "p/seen")
    expect(all(word in text for word in ("logs and followers", "slowest PGs", "FROM HERE")), text)
    c.fb("perf", "p/absent", code=1)
    expect("p/absent" in c.stderr, c.stderr)
    c.fb("perf", "p/seen", "--time", "0", code=2)
    c.fb("perf", "osd.0", "--time", "1", code=2)


if __name__ == "__main__":
    main(globals())
