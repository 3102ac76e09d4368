# SPDX-License-Identifier: Apache-2.0
"""The services under a real systemd: installed as packages install them, set up by fastblock-deploy; processes and the machine die, start
again, and end in order."""
import os
import sys

import booted
from harness import Failure, expect, main, wait_for

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
BUILD = os.path.dirname(os.environ.get("FASTBLOCK_UNITS", os.path.join(SOURCE, "build/deploy")))
DEPLOY = os.path.join(SOURCE, "deploy/fastblock-deploy")
MON = "fastblock-mon.service"

SSH = """#!/bin/sh
shift
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec {inside} "$@"
"""


class Booted(booted.Machine):
    def __init__(self):
        super().__init__(BUILD)
        try:
            self.device = self.disk("a", "1G")
            self.osd = f"fastblock-osd@{self.device[1:].replace('/', '-')}.service"
            self.outside("chroot", f"{self.at}/root", "systemd-sysusers")  # as the package does
            self.on("systemd-tmpfiles", "--create")
            self.deploy()
        except BaseException:
            self.logs()
            self.close()
            raise

    def deploy(self):
        ssh, text = f"{self.at}/root/ssh", f"node1 mon=127.0.0.1:7000 osd={self.device}\n"
        self.write("/ssh", SSH.format(inside=" ".join(self.inside())))
        self.write("/description", text)
        self.outside("sh", "-c", f"chmod 755 {ssh}; exec {DEPLOY} --ssh {ssh} {self.at}/root/description")

    def logs(self):
        for unit in (MON, self.osd):
            print(f"# {unit}\n#   " + "\n#   ".join(self.journal(unit).split("\n")[-12:]))

    def pid(self, unit):
        return int(self.property(unit, "MainPID"))

    def works(self):
        """Writes go through, and what was written is there."""
        def healthy():
            return '"health": "ok"' in self.on("fastblock", "status", "--json", code=None)
        wait_for("the cluster", healthy, pause=0.2)
        self.on("rm", "-f", "/back")
        self.on("fastblock", "image", "export", "p/i", "/back")
        self.on("cmp", "/data", "/back")
        self.on("fastblock", "bench", "p/j", "--rw", "randwrite", "--time", "1")


def begin(m):
    m.on("fastblock", "pool", "create", "p", "--pgs", "8", "--replicas", "1")
    m.on("dd", "if=/dev/urandom", "of=/data", "bs=1M", "count=8")
    m.on("fastblock", "image", "import", "/data", "p/i")
    m.on("fastblock", "image", "create", "p/j", "--size", "16M")
    m.works()


def test_services(m):
    begin(m)
    for unit in (MON, m.osd):
        status = m.on("ps", "-o", "user=", "-p", str(m.pid(unit)))
        expect(status.strip() == "fastbl+" or status.strip() == "fastblock", f"{unit} runs as {status}")
        expect(m.property(unit, "ActiveState") == "active" and m.property(unit, "UnitFileState") == "enabled", f"{unit} is not active and enabled")
    expect("listening on" in m.journal(MON) and "is up at" in m.journal(MON), "the journal of the monitor")

    # What dies is started again.
    for unit in (m.osd, MON):
        before = m.pid(unit)
        m.on("kill", "-KILL", str(before))
        wait_for(f"{unit} to be started again", lambda unit=unit, before=before: m.pid(unit) not in (0, before))
        m.works()

    # What is wrong in the configuration is not tried again and again, and what it is stands in the journal.
    good = m.on("cat", "/etc/fastblock.conf")
    m.write("/etc/fastblock.conf", good + "[osd]\ncolour = red\n")
    m.on("systemctl", "restart", m.osd, code=None)
    wait_for("it to fail", lambda: m.property(m.osd, "ActiveState") == "failed")
    expect(m.property(m.osd, "ExecMainStatus") == "2" and m.property(m.osd, "NRestarts") in ("0", "1"), "it was tried again")
    expect("colour" in m.journal(m.osd), m.journal(m.osd))
    m.write("/etc/fastblock.conf", good)
    m.on("systemctl", "start", m.osd)
    m.works()

    # In order.
    m.on("systemctl", "stop", m.osd)
    expect(m.property(m.osd, "Result") == "success" and "stopping" in m.journal(m.osd), m.journal(m.osd))
    m.on("systemctl", "stop", MON)
    expect(m.property(MON, "Result") == "success", "the monitor did not end well")
    m.on("systemctl", "start", m.osd, MON)
    m.works()


def test_the_machine(m):
    begin(m)
    m.switch_off()
    m.boot()
    m.works()
    m.power_off()
    m.boot()
    m.works()
    said = m.on("journalctl", "-q", "--no-pager", "-u", m.osd, "-u", MON)
    expect(said.count("Deactivated successfully") == 2, f"they did not end in order with the machine:\n{said}")


def why_not():
    """Why no systemd can be booted here; None: it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not os.path.exists(booted.SYSTEMD):
        return "there is no systemd here"
    try:
        booted.Machine(BUILD).close()
    except Failure as error:
        return str(error).replace("\n", " ")
    return None


reason = why_not()
if reason:
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)
main(globals(), cluster=Booted)
