# SPDX-License-Identifier: Apache-2.0
"""A machine with a real systemd, in namespaces: its root is this machine's under a layer of its own, into which the programs and units are
installed; PID 1 is systemd. It can be switched off at any moment, ended in order, and booted again. Needs root."""
import os
import shutil
import signal
import subprocess
import tempfile

from harness import Failure, wait_for

SYSTEMD = "/usr/lib/systemd/systemd"

# The layer stays for as long as this shell: all boots are in its mount namespace.
HOLD = """set -e
mount -t tmpfs -o size=1400m,mode=755 none {at}
mkdir {at}/upper {at}/work {at}/root {at}/disks
mount -t overlay overlay -o lowerdir=/,upperdir={at}/upper,workdir={at}/work {at}/root
rm -rf {at}/root/etc/systemd/system/*.wants {at}/root/etc/fastblock.conf {at}/root/var/lib/fastblock {at}/root/var/log/journal
mkdir -p {at}/root/var/log/journal
echo 0123456789abcdef0123456789abcdef >{at}/root/etc/machine-id
echo ready
exec sleep 100000
"""

BOOT = """set -e
cd {at}/root
mount --bind . .
cd {at}/root
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
umount -l sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p run/former
pivot_root . run/former
umount -l /run/former
export container=fastblock-test
exec {systemd} --unit=multi-user.target --show-status=no
"""


class Machine:
    def __init__(self, build):
        self.at, self.holder, self.boots, self.loops = tempfile.mkdtemp(prefix="fb-boot-"), None, None, []
        try:
            self.holder = subprocess.Popen(("unshare", "--mount", "--propagation", "private", "sh", "-c", HOLD.format(at=self.at)),
                                           stdout=subprocess.PIPE, text=True)
            if self.holder.stdout.readline() != "ready\n":
                raise Failure("a file system in layers cannot be made here")
            self.outside("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", f"{self.at}/root")
            self.outside("chroot", f"{self.at}/root", "ldconfig")
            self.boot()
        except BaseException:
            self.close()
            raise

    def outside(self, *args, check=True):
        """A command of this machine, with the other one's root under self.at + "/root"."""
        done = subprocess.run(("nsenter", "-t", str(self.holder.pid), "-m") + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False)
        if check and done.returncode:
            raise Failure(f"{' '.join(args)}: {done.stdout}")
        return done.stdout

    def boot(self):
        script = BOOT.format(at=self.at, systemd=SYSTEMD)
        self.boots = subprocess.Popen(("nsenter", "-t", str(self.holder.pid), "-m", "unshare", "--mount", "--propagation", "private", "--pid",
                                       "--fork", "--uts", "--ipc", "--net", "--cgroup", "sh", "-c", script),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

        def up():
            if self.boots.poll() is not None:
                raise Failure(f"systemd does not start here: {self.boots.stderr.read()}")
            return self.first() and self.on("systemctl", "is-system-running", code=None).strip() in ("running", "degraded")
        wait_for("systemd to have booted", up, timeout=60, pause=0.2)

    def first(self):
        """PID 1, by its number here."""
        try:
            with open(f"/proc/{self.boots.pid}/task/{self.boots.pid}/children") as f:
                return int(f.read().split()[0])
        except (OSError, IndexError):
            return None

    def inside(self):
        """The words in front of a command that is to run there."""
        return ("nsenter", "-t", str(self.first()), "-m", "-p", "-u", "-i", "-n", "-C")

    def on(self, *args, code=0):
        done = subprocess.run(self.inside() + args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
                              env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
        if code is not None and done.returncode != code:
            raise Failure(f"{' '.join(args)}: exit code {done.returncode}, not {code}\n{done.stdout}")
        return done.stdout

    def write(self, path, text):
        self.outside("sh", "-c", f"cat >{self.at}/root{path} <<'END'\n{text}END")

    def disk(self, name, size):
        """A block device; its name."""
        path = f"{self.at}/disks/{name}"
        self.outside("truncate", "-s", size, path)
        loop = self.outside("losetup", "-f", "--show", path).strip()
        self.loops.append(loop)
        self.outside("chgrp", "disk", loop)  # as udev does, which does not run there
        self.outside("chmod", "660", loop)
        return loop

    def property(self, unit, name):
        return self.on("systemctl", "show", "-p", name, "--value", unit).strip()

    def journal(self, unit):
        return self.on("journalctl", "-q", "--no-pager", "-o", "cat", "-u", unit)

    def gone(self):
        return self.boots.poll() is not None

    def switch_off(self):
        os.kill(self.first(), signal.SIGKILL)
        wait_for("the machine to be off", self.gone)

    def power_off(self):
        self.on("systemctl", "poweroff", code=None)
        wait_for("the machine to end in order", self.gone, timeout=60)

    def close(self):
        if self.boots and not self.gone():
            self.switch_off()
        for loop in self.loops:
            subprocess.run(("losetup", "-d", loop), check=False)
        if self.holder:
            self.holder.kill()
            self.holder.wait()
        shutil.rmtree(self.at, ignore_errors=True)
