# SPDX-License-Identifier: Apache-2.0
"""Damage on real devices: rot that nobody reads is found and repaired by scrub, blocks that nobody has are listed, a damaged log is
told of and healed; and the commands."""
import os
import re
import struct

from harness import Failure, expect, main, wait_for

BLOCK = 4096
BLOCKS = 4096


def block(number, salt=b"first"):
    return (b"%s block %08d " % (salt, number)).ljust(64, b".") * (BLOCK // 64)


def fill(c, salt=b"first", overwrite=False):
    """An image all of whose blocks are told apart; returns its source."""
    source = os.path.join(c.root, "source")
    with open(source, "wb") as f:
        f.write(b"".join(block(n, salt) for n in range(BLOCKS)))
    if not overwrite:
        c.fb("pool", "create", "p", "--pgs", "8", "--replicas", "3")
        c.wait_active()
    c.fb("image", "import", source, "p/i", *(["--overwrite"] if overwrite else []))
    return source


def exported(c, source):
    back = os.path.join(c.root, "back")
    c.fb("image", "export", "p/i", back, "--overwrite")
    with open(source, "rb") as a, open(back, "rb") as b:
        return a.read() == b.read()


def device(c, osd):
    return os.open(os.path.join(c.dir, osd, "device"), os.O_RDWR)


def pieces(fd):
    """What has ever been written to a device: (offset, bytes), whole blocks."""
    at, size = 0, os.fstat(fd).st_size
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA) // BLOCK * BLOCK
        except OSError:
            return
        data = os.pread(fd, 1 << 20, at)
        yield at, data
        at += len(data)


def rot(c, osd, numbers):
    """One byte of each of these blocks changes, wherever the stopped OSD's device has them."""
    wanted = {block(n) for n in numbers}
    found = set()
    fd = device(c, osd)
    for at, data in pieces(fd):
        for i in range(0, len(data), BLOCK):
            if data[i:i + BLOCK] in wanted:
                found.add(data[i:i + BLOCK])
                os.pwrite(fd, bytes([data[i + 77] ^ 1]), at + i + 77)
    os.fsync(fd)
    os.close(fd)
    expect(found == wanted, f"{osd}: {len(found)} of {len(wanted)} blocks are on its device")


def stopped(c, osd, action):
    c.fb("cluster", "stop", c.dir, osd)
    action()
    c.start_process(osd)
    c.wait_active()


def results(c):
    return [c.json("pg", "show", pg["pg"]) for pg in c.json("pg", "ls")]


def scrub(c, *args):
    c.fb("pg", "scrub", "--all", *args)
    wait_for("the scrubs to end", lambda: c.json("status")["scrubs_due"] == 0, 90)
    return {key: sum(r["last_scrub"][key] for r in results(c)) for key in ("found", "repaired", "left", "differing", "skipped")}


def test_rot_that_nobody_reads(c):
    source = fill(c)
    for osd, numbers in (("osd.1", range(100, 4000, 600)), ("osd.2", range(200, 4000, 900))):
        stopped(c, osd, lambda o=osd, n=numbers: rot(c, o, n))
    bad = len(range(100, 4000, 600)) + len(range(200, 4000, 900))
    light = scrub(c)
    expect(light["differing"] == light["left"] == light["skipped"] == 0, f"light: {light}")
    deep = scrub(c, "--deep")
    expect(deep == {"found": bad - light["found"], "repaired": bad - light["found"], "left": 0, "differing": 0, "skipped": 0},
           f"{bad} blocks were rotten: {deep}")
    for r in results(c):
        expect(r["last_scrub"]["kind"] == "deep" and r["last_scrub"]["replicas"] == 3 and r["deep_scrub_us"] > 0, f"pg show: {r}")
    problems = " ".join(c.json("status")["problems"])
    expect("blocks have been restored" in problems, f"status does not tell: {problems}")
    again = scrub(c, "--deep")
    expect(again["found"] == 0, f"again: {again}")
    before = results(c)
    c.kill("mon")
    c.start_process("mon")
    c.wait_active()
    expect([r["deep_scrub_us"] for r in results(c)] == [r["deep_scrub_us"] for r in before], "results did not survive the monitor")
    for osd in ("osd.1", "osd.2"):
        c.fb("cluster", "stop", c.dir, osd)
        c.fb("store", "check", os.path.join(c.dir, osd, "device"), "--deep")
        c.start_process(osd)
        c.wait_active()
    expect(exported(c, source), "the image is not what was written")


def test_a_block_that_nobody_has(c):
    source = fill(c)
    for osd in ("osd.0", "osd.1", "osd.2"):
        stopped(c, osd, lambda o=osd: rot(c, o, [1234]))
    expect(scrub(c, "--deep")["left"] == 1, f"results: {results(c)}")

    def listed():
        return [(r["pg"], d) for r in results(c) for d in r["damage"]]
    wait_for("the block to be listed", listed)
    where = {"object": 1234 // 512, "first": 1234 % 512}
    pg, damage = listed()[0]
    expect(damage["object"] == where["object"] and damage["blocks"] == [{"first": where["first"], "count": 1}]
           and damage["since_us"] > 0, f"damage: {damage}")
    expect("image " in c.fb("pg", "show", pg) and f"blocks {where['first']} to" in c.fb("pg", "show", pg), "pg show")
    status = c.json("status")
    expect(status["health"] == "error" and status["damaged_blocks"] == 1, f"status: {status}")
    c.fb("image", "export", "p/i", os.path.join(c.root, "back"), "--overwrite", code=1)
    c.fb("cluster", "down", c.dir)
    c.fb("cluster", "up", c.dir)
    c.wait_active()
    expect(listed() == [(pg, damage)], f"after a restart: {listed()}")
    source = fill(c, b"second", overwrite=True)
    wait_for("the block to leave the list", lambda: not listed() and c.json("status")["damaged_blocks"] == 0, 60)
    expect(exported(c, source), "the image is not what was written")


def damage_log(c, osd):
    """One byte of a header in the ring of the stopped OSD's device changes; some behind it prove that it was durable."""
    fd = device(c, osd)
    batches = [(struct.unpack_from("<Q", data, i + 32)[0], at + i) for at, data in pieces(fd) for i in range(0, len(data), BLOCK)
               if data[i:i + 8] == b"FBTCH001"]
    expect(len(batches) > 20, f"{osd} has {len(batches)} batches in its log")
    at = sorted(batches)[-10][1]
    byte = os.pread(fd, 1, at + 100)[0]
    os.pwrite(fd, bytes([byte ^ 1]), at + 100)
    os.fsync(fd)
    os.close(fd)


def test_a_damaged_log(c):
    source = fill(c)
    c.kill("osd.1")
    damage_log(c, "osd.1")
    c.start_process("osd.1")

    def told():
        return [p for p in c.json("health")["problems"] if p["code"] == "OSD_DAMAGE" and "osd.1" in p["what"]]
    problem = wait_for("the damage to be told of", told)[0]
    expect(re.search("the logs of [1-9]", problem["what"]), f"health: {problem}")

    def whole():
        return not [p for p in c.json("health")["problems"] if p["code"] in ("PG_DAMAGED", "PG_RECOVERING")]
    c.wait_active()
    wait_for("the replicas to be whole", whole)
    expect(all(r["log_damaged_osd"] is None for r in results(c)), f"pg show: {results(c)}")
    expect(exported(c, source), "the image is not what was written")


def test_commands(c):
    fill(c)
    c.fb("pg", "scrub", code=2)
    c.fb("pg", "scrub", "1.0", "--all", code=2)
    c.fb("pg", "scrub", "nonsense", code=2)
    for command in ("scrub", "repair", "show"):
        c.fb("pg", command, "9.1", code=1)
        expect("there is no PG 9.1" in c.stderr, f"pg {command}: {c.stderr}")
    shown = c.json("pg", "show", "1.0")
    expect(len(shown["members"]) == 3 and shown["last_scrub"] is None and not shown["damage"] and not shown["scrub_due"],
           f"pg show: {shown}")
    expect("never" in c.fb("pg", "show", "1.0"), "pg show tells of a scrub")
    c.fb("scrub", "pause")
    c.fb("pg", "scrub", "1.0", "--deep")
    expect("paused" in c.stderr, f"pg scrub: {c.stderr}")
    status = c.json("status")
    expect(status["scrub_paused"] and status["scrubs_due"] == 1 and any("scrub resume" in p for p in status["problems"]),
           f"status: {status}")
    c.kill("mon")
    c.start_process("mon")
    wait_for("the monitor", lambda: c.json("status")["scrub_paused"])
    expect(c.json("pg", "show", "1.0")["scrub_due"], "the order is lost")
    c.fb("scrub", "resume")
    wait_for("the scrub", lambda: c.json("pg", "show", "1.0")["last_scrub"], 60)
    c.fb("pg", "repair", "1.1")
    wait_for("the repair", lambda: c.json("pg", "show", "1.1")["last_scrub"], 60)
    shown = c.json("pg", "show", "1.1")
    expect(shown["last_scrub"]["kind"] == "deep" and shown["last_scrub"]["differing"] == 0, f"pg show: {shown}")
    if c.json("status")["scrubs_due"]:
        raise Failure("something is still to be scrubbed")


if __name__ == "__main__":
    main(globals())
