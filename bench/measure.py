# SPDX-License-Identifier: Apache-2.0
"""What all sides of bench/compare share: the workloads, clocks of processes, one fio job, and the raw limits of the machine.

A measurement is a dict: iops, mb_s, p50, p99, p999 (microseconds, from a request's start to its end) and cpu (microseconds of CPU per
request, of the client and all daemons together)."""
import dataclasses
import json
import os
import resource
import signal
import socket
import subprocess
import time

FIGURES = ["iops", "mb_s", "p50", "p99", "p999", "cpu"]


class Failure(Exception):
    """Said to the user as it is; no traceback."""


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    rw: str  # as of `fastblock bench` and of fio
    block_bytes: int
    depth: int  # of all images together
    images: int = 1
    hot: bool = False  # a small image, overwritten before anything of it is written back


# The order matters: random writes come first, on images just filled, so that every store meets the same state.
WORKLOADS = [
    Workload("4k-randwrite-qd1", "randwrite", 4096, 1),
    Workload("4k-randwrite-qd32", "randwrite", 4096, 32),
    Workload("4k-randwrite-qd32-hot", "randwrite", 4096, 32, hot=True),
    Workload("4k-randwrite-qd32-8images", "randwrite", 4096, 32, images=8),
    Workload("4k-randwrite-qd128", "randwrite", 4096, 128),
    Workload("4k-randwrite-qd128-8images", "randwrite", 4096, 128, images=8),
    Workload("4k-randread-qd1", "randread", 4096, 1),
    Workload("4k-randread-qd128", "randread", 4096, 128),
    Workload("4k-randread-qd128-8images", "randread", 4096, 128, images=8),
    Workload("4k-randrw70-qd32", "randrw", 4096, 32),
    Workload("128k-write-qd16", "write", 131072, 16),
    Workload("1m-write-qd8", "write", 1 << 20, 8),
    Workload("1m-write-qd8-8images", "write", 1 << 20, 8, images=8),
    Workload("1m-read-qd8", "read", 1 << 20, 8),
]
IMAGES = 8


def run(command, env=None, limit=300):
    """Runs a command to its end; its output. Failure with what it said otherwise."""
    try:
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit, check=False)
    except FileNotFoundError:
        raise Failure(f"{command[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise Failure(f"{' '.join(command)}: no end after {limit} s") from None
    if done.returncode:
        raise Failure(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def wait_for(what, predicate, limit=120):
    end = time.monotonic() + limit
    while not predicate():
        if time.monotonic() > end:
            raise Failure(f"timed out waiting for {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pids):
    """CPU time of these processes so far, all threads, in nanosecond steps: clock_getcpuclockid(3) by hand."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def processes_of(directory):
    """The processes that name the directory in their arguments or environment."""
    found = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as arguments, open(f"/proc/{pid}/environ", "rb") as environment:
                if directory.encode() in arguments.read() + environment.read():
                    found.append(pid)
        except OSError:
            pass  # it has ended, or is another user's
    return found


def end_processes(directory):
    """Ends all processes of a directory that is this run's own: nothing else can name it."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_of(directory):
            try:
                os.kill(pid, sig)
            except ProcessLookupError:
                pass
        end = time.monotonic() + 10
        while processes_of(directory) and time.monotonic() < end:
            time.sleep(0.1)


def busy_share(seconds):
    """How much of the machine is in use, 0 to 1, over so many seconds from now: by others, when our sides are idle."""
    def sample():
        with open("/proc/stat") as f:
            times = [int(t) for t in f.readline().split()[1:9]]
        return times[3] + times[4], sum(times)  # idle and waiting for a device; all

    idle, whole = sample()
    time.sleep(seconds)
    idle_after, whole_after = sample()
    return 1 - (idle_after - idle) / max(whole_after - whole, 1)


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def in_memory(path):
    return run(["stat", "-f", "-c", "%T", path]).strip() in ("tmpfs", "ramfs")


def memory_available():
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable"))


def fio(jobs, workload, seconds, pids, env=None):
    """One workload through fio. `jobs`: for each image the fio options that name it; CPU counts for `pids` and fio."""
    mixed = workload.rw == "randrw"
    command = ["fio", "--output-format=json", "--thread", "--group_reporting", f"--rw={workload.rw}", f"--bs={workload.block_bytes}",
               f"--iodepth={workload.depth // len(jobs)}", "--rwmixread=70", "--time_based", f"--runtime={seconds}", "--randrepeat=0",
               "--norandommap", f"--unified_rw_reporting={'mixed' if mixed else 'none'}", "--lat_percentiles=1", "--clat_percentiles=0",
               "--percentile_list=50:99:99.9"]
    for number, job in enumerate(jobs):
        command += [f"--name=job{number}"] + job
    before = cpu_seconds(pids) + children_seconds()
    # A dead cluster hangs its client for ever.
    out = run(command, env, limit=seconds + 60)
    cpu = cpu_seconds(pids) + children_seconds() - before
    job = json.loads(out[out.index("{"):])["jobs"][0]
    io = job["mixed"] if mixed else job["read" if "read" in workload.rw else "write"]
    if not io["total_ios"]:
        raise Failure(f"{workload.name}: fio completed nothing in {seconds} s")
    percentile = io["lat_ns"]["percentile"]
    return {"iops": io["iops"], "mb_s": io["bw_bytes"] / 1e6, "p50": percentile["50.000000"] / 1e3, "p99": percentile["99.000000"] / 1e3,
            "p999": percentile["99.900000"] / 1e3, "cpu": cpu * 1e6 / io["total_ios"]}


def limits(directory, pingpong, seconds):
    """The machine without any store: a file in `directory` written and read by fio, and a message there and back over loopback TCP.
    Returns rows (what, measurement)."""
    rows = []
    path = os.path.join(directory, "limits")
    # On the disk each write is durable when it is done, as it must be for a store.
    sync = [] if in_memory(directory) else ["--sync=dsync"]
    job = ["--ioengine=io_uring", "--direct=1", f"--filename={path}", "--size=256m"]
    try:
        run(["fio", "--name=fill", "--rw=write", "--bs=1m", "--end_fsync=1"] + job)
        for what, workload in (("file: 4 KiB random write, depth 1", Workload("limit", "randwrite", 4096, 1)),
                               ("file: 4 KiB random write, depth 32", Workload("limit", "randwrite", 4096, 32)),
                               ("file: 4 KiB random read, depth 1", Workload("limit", "randread", 4096, 1)),
                               ("file: 4 KiB random read, depth 128", Workload("limit", "randread", 4096, 128)),
                               ("file: 1 MiB write, depth 8", Workload("limit", "write", 1 << 20, 8)),
                               ("file: 1 MiB read, depth 8", Workload("limit", "read", 1 << 20, 8))):
            rows.append((what, fio([job + (sync if "write" in workload.rw else [])], workload, seconds, [])))
    finally:
        if os.path.exists(path):
            os.unlink(path)
    for what, mode, cpus in (("loopback: 4 KiB there, 64 bytes back, sleeping", "block", ("-1", "-1")),
                             ("the same, both on one core", "block", ("0", "0")),
                             ("the same, one core each, spinning", "spin", ("0", "1"))):
        rows.append((what, json.loads(run([pingpong, "4096", "64", str(seconds), mode, *cpus]))))
    return rows
