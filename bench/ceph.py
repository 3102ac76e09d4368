# SPDX-License-Identifier: Apache-2.0
"""A Ceph cluster on this machine as a side of bench/compare: one monitor, one manager, three BlueStore OSDs, RBD images driven by fio.

From Debian's packages, without systemd, containers or cephadm; everything lives in one directory. The settings favour Ceph where there
is a choice: SSD profile, no debug logs, no cephx, no encryption. The client's cache is off, because a write counts when all replicas
have it, and checksums on the messenger are on, as fastblock's are."""
import glob
import json
import os
import shutil
import subprocess
import uuid

from measure import IMAGES, Failure, end_processes, fio, free_port, run, wait_for

PROGRAMS = ["ceph-mon", "ceph-mgr", "ceph-osd", "ceph", "rbd", "monmaptool", "fio"]
PACKAGES = "ceph-mon ceph-mgr ceph-osd ceph-base ceph-common librbd1 fio"
OSDS = 3
PGS = 128  # about 100 per OSD, as its documents advise
OVERHEAD = 1 << 30  # of a device: BlueStore's own files
OSD_MEMORY = 1 << 30


class Ceph:
    name, up_seconds = "ceph", 45

    def __init__(self, directory, image_bytes, spin):
        self.dir = directory
        self.conf = os.path.join(directory, "ceph.conf")
        self.image_bytes = image_bytes
        self.env = dict(os.environ, CEPH_CONF=self.conf)

    @staticmethod
    def memory_bytes(image_bytes):
        """What it takes of the machine when its devices are memory."""
        return OSDS * (2 * image_bytes + OVERHEAD + OSD_MEMORY)

    @staticmethod
    def missing():
        """What has to be installed first, or None."""
        names = [name for name in PROGRAMS if not shutil.which(name)]
        return f"{', '.join(names)}: apt-get install -y --no-install-recommends {PACKAGES}" if names else None

    @staticmethod
    def takes(workload):
        return not workload.hot  # there is no such image here: that workload is ours and the floor's

    def call(self, *args):
        return run(["ceph", "--connect-timeout", "20", *args], self.env)

    def ask(self, *args):
        """A command's answer, or nothing while it fails."""
        try:
            return json.loads(self.call(*args, "-f", "json"))
        except (Failure, ValueError):
            return {}

    def write_conf(self, fsid, port):
        shown = subprocess.run(["ceph-osd", "--no-mon-config", "--show-config"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True, check=False).stdout
        debug = [line.split(" ")[0] for line in shown.splitlines() if line.startswith("debug_")]
        device = 2 * self.image_bytes + OVERHEAD
        with open(self.conf, "w") as f:
            f.write(f"""[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{port}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_ipv6 = false
ms_cluster_mode = crc
ms_service_mode = crc
ms_client_mode = crc
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
mon_data = {self.dir}/mon.$id
mgr_data = {self.dir}/mgr.$id
osd_data = {self.dir}/osd.$id
run_dir = {self.dir}/run
pid_file = {self.dir}/run/$type.$id.pid
admin_socket = {self.dir}/run/$name.$pid.asok
log_file = {self.dir}/log/$name.log
mon_cluster_log_file = {self.dir}/log/cluster.log
crash_dir = {self.dir}/log
osd_crush_chooseleaf_type = 0
osd_pool_default_size = {OSDS}
osd_pool_default_min_size = {OSDS - 1}
osd_pool_default_pg_autoscale_mode = off
# All stand on one host: two reports of a dead OSD would count as one, and nothing be done about it.
mon_osd_reporter_subtree_level = osd
mon_osd_nearfull_ratio = 0.95
mon_osd_backfillfull_ratio = 0.96
mon_osd_full_ratio = 0.97
mon_data_avail_crit = 1
mon_data_avail_warn = 1
mgr_initial_modules = iostat
# A file is taken for a spinning disk otherwise: small writes deferred, fewer shards.
bluestore_debug_enforce_settings = ssd
osd_op_num_shards = 8
osd_op_num_threads_per_shard = 2
osd_memory_target = {OSD_MEMORY}
bluestore_block_size = {device}
rbd_cache = false
""")
            f.writelines(f"{name} = 0/0\n" for name in debug)

    def up(self):
        for name in ("run", "log", "mon.a", "mgr.x"):
            os.makedirs(os.path.join(self.dir, name))
        fsid, port = str(uuid.uuid4()), free_port()
        self.write_conf(fsid, port)
        monmap = os.path.join(self.dir, "monmap")
        run(["monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{port}]", "--fsid", fsid, monmap], self.env)
        run(["ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap], self.env)
        self.daemon("ceph-mon", "a")
        wait_for("ceph: the monitor", lambda: self.ask("status"))
        self.call("mon", "enable-msgr2")
        self.call("config", "set", "mgr", "mgr/devicehealth/enable_monitoring", "false", "--force")  # it would make a pool
        self.daemon("ceph-mgr", "x")
        for osd in range(OSDS):
            osd_uuid = str(uuid.uuid4())
            os.mkdir(os.path.join(self.dir, f"osd.{osd}"))
            self.call("osd", "new", osd_uuid, str(osd))
            run(["ceph-osd", "-i", str(osd), "--mkfs", "--osd-uuid", osd_uuid], self.env)
            self.daemon("ceph-osd", str(osd))
        wait_for("ceph: the OSDs", lambda: self.ask("osd", "stat").get("num_up_osds") == OSDS)
        wait_for("ceph: the manager", lambda: self.ask("mgr", "stat").get("available"))
        self.call("osd", "pool", "create", "bench", str(PGS), str(PGS), "replicated")
        self.call("osd", "pool", "application", "enable", "bench", "rbd")
        wait_for("ceph: the placement groups", self.clean)
        self.create("one", self.image_bytes)
        for number in range(IMAGES):
            self.create(f"many{number}", self.image_bytes // IMAGES)
        for name in ["one"] + [f"many{number}" for number in range(IMAGES)]:
            # Whole images: no run allocates.
            run(["fio", "--name=fill", "--rw=write", "--bs=1m", "--iodepth=8", "--thread"] + self.job(name), self.env)

    def daemon(self, program, name):
        """Starts one; it goes to the background by itself, with nothing of ours open."""
        with open(os.path.join(self.dir, "log/start.log"), "a") as log:
            if subprocess.run([program, "-i", name], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode:
                raise Failure(f"{program} {name} did not start; see {self.dir}/log")

    def clean(self):
        summary = self.ask("pg", "stat").get("pg_summary", {})
        return summary.get("num_pgs", 0) >= PGS and [s["name"] for s in summary.get("num_pg_by_state", [])] == ["active+clean"]

    def create(self, name, size_bytes):
        run(["rbd", "create", f"bench/{name}", "--size", f"{size_bytes >> 20}M"], self.env)

    def job(self, image):
        return ["--ioengine=rbd", "--clientname=admin", "--pool=bench", f"--rbdname={image}"]

    def pids(self):
        pids = []
        for path in glob.glob(os.path.join(self.dir, "run/*.pid")):
            with open(path) as f:
                pids.append(int(f.read()))
        return pids

    def run(self, workload, seconds):
        jobs = [self.job("one")] if workload.images == 1 else [self.job(f"many{number}") for number in range(workload.images)]
        return fio(jobs, workload, seconds, self.pids(), self.env)

    def down(self):
        """Ends every daemon and removes the directory; whatever state it is in."""
        end_processes(self.dir)
        shutil.rmtree(self.dir, ignore_errors=True)
