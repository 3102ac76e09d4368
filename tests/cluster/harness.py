# SPDX-License-Identifier: Apache-2.0
"""What the cluster tests stand on: a trial cluster in a temporary directory, commands, signals, TAP.

A test is a function test_*(c) of a module that calls main(globals()). Every test gets a cluster of its own, unless the module
sets SHARED = True; then setup(c), if there is one, runs once on the shared one. Nothing is left behind: processes are ended by pid, files removed."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

BIN = os.environ.get("FASTBLOCK_BIN", os.path.join(os.path.dirname(__file__), "../../build/src/cmd"))
HAMMER = os.environ.get("FASTBLOCK_HAMMER", os.path.join(os.path.dirname(__file__), "../../build/tests/cluster/hammer"))
HISTORY = os.environ.get("FASTBLOCK_HISTORY", os.path.join(os.path.dirname(__file__), "../../build/tests/cluster/history"))


class Failure(Exception):
    pass


def tell(text):
    """Says why a test failed, where a test runner shows it: on stderr, since TAP has stdout."""
    print("# " + text.replace("\n", "\n# "), file=sys.stderr, flush=True)


def expect(condition, text):
    if not condition:
        raise Failure(text)


def wait_for(what, predicate, timeout=30.0, pause=0.05):
    """Waits until predicate() is true; its value is returned."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"timed out after {timeout} s waiting for {what}")
        time.sleep(pause)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def in_memory():
    """Where clusters belong whose devices are written all over: a file system on a disk that discards what it frees, as those of virtual
    machines do, takes a minute to remove each of them. None, which is a directory on the disk, where there is not room for some clusters."""
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) << 10 for line in f if line.startswith("MemAvailable:"))
    room = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    return "/dev/shm" if min(available, room) > 12 << 30 else None


class Cluster:
    def __init__(self, osds=3, shards=1, size="1G", base=None, spin=0, out_after=600):
        self.root = tempfile.mkdtemp(prefix="fb-test-", dir=base)
        self.dir = os.path.join(self.root, "cluster")
        self.env = dict(os.environ, PATH=BIN + ":" + os.environ["PATH"])
        self.env.pop("FASTBLOCK_MON", None)
        self.children = []
        self.out_after = out_after
        try:
            self.bring_up(osds, shards, size, spin)
        except BaseException:
            self.logs()
            self.close()
            raise

    def bring_up(self, osds, shards, size, spin):
        self.fb("cluster", "up", self.dir, "--osds", str(osds), "--shards", str(shards), "--size", size, "--spin", str(spin),
                "--out-after", str(self.out_after))
        self.env["FASTBLOCK_MON"] = json.loads(self.fb("cluster", "env", self.dir, "--json"))["FASTBLOCK_MON"]

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()
        pids = [process["pid"] for process in self.processes() if process["running"]]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_for("the daemons to end", lambda: not any(is_alive(pid) for pid in pids))
        shutil.rmtree(self.root)

    def processes(self):
        done = subprocess.run([os.path.join(BIN, "fastblock"), "cluster", "status", self.dir, "--json"], env=self.env,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else []

    def logs(self):
        if not os.path.isdir(self.dir):
            return
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(os.path.join(self.dir, name), errors="replace") as f:
                    lines = f.read().split("\n")[-25:]
                tell(name + "\n  " + "\n  ".join(lines))

    def run(self, *args, code=0, timeout=120, stdin=None):
        """Runs a command; expects its exit code (None: any). Returns stdout; self.stderr has the other."""
        done = subprocess.run(args, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                              check=False, input=stdin)
        self.stderr, self.code = done.stderr, done.returncode
        if code is not None and done.returncode != code:
            raise Failure(f"{' '.join(args)}: exit code {done.returncode}, not {code}\n{done.stdout}{done.stderr}")
        return done.stdout

    def fb(self, *args, code=0, timeout=120):
        return self.run(os.path.join(BIN, "fastblock"), *args, code=code, timeout=timeout)

    def json(self, *args):
        return json.loads(self.fb(*args, "--json"))

    def start(self, *args, stdout=subprocess.DEVNULL, **kwargs):
        child = subprocess.Popen(args, env=self.env, stdout=stdout, **kwargs)  # our own stdout is for TAP
        self.children.append(child)
        return child

    def pid(self, name):
        for process in self.processes():
            if process["name"] == name and process["running"]:
                return process["pid"]
        raise Failure(f"{name} does not run")

    def kill(self, *names, sig=signal.SIGKILL):
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.kill(pid, sig)
        if sig == signal.SIGKILL:
            wait_for("the killed to be gone", lambda: not any(is_alive(pid) for pid in pids), pause=0.005)

    def start_process(self, name):
        self.fb("cluster", "start", self.dir, name)

    def pool_image(self, pool="p", image="p/i", size="256M", pgs=16, replicas=3):
        self.fb("pool", "create", pool, "--pgs", str(pgs), "--replicas", str(replicas))
        self.fb("image", "create", image, "--size", size)
        self.wait_active()

    def wait_active(self, degraded=False, timeout=60):
        """All PGs have a leader, and all their replicas are in contact unless `degraded` is allowed."""
        def good():
            status = self.json("status")
            return status["pgs_active"] == status["pgs"] and (degraded or status["pgs_degraded"] == 0)
        wait_for("the PGs to be active" + ("" if degraded else " and clean"), good, timeout)

    def leaders(self):
        return {pg["pg"]: pg["leader"] for pg in self.json("pg", "ls")}

    def hammer(self, mode, image="p/i", state="state", background=False, **options):
        args = [HAMMER, mode, image, os.path.join(self.root, state)]
        args += [f"{name}={value}" for name, value in options.items()]
        child = self.start(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return child if background else self.hammer_result(child)

    def hammer_result(self, child, errors=False, end=False):
        """Waits until it ends; `end`: it has seen all that it was to see, and is told so."""
        if end:
            expect(child.poll() is None, "hammer ended before it had seen all")
            child.terminate()
        out, err = child.communicate(timeout=180)
        if child.returncode == 1 or (child.returncode and not errors) or not out:
            raise Failure(f"hammer: exit code {child.returncode}: {out}{err}")
        return json.loads(out)

    def nbd(self, image="p/i", name="nbd", args=(), ready=True):
        """Starts fastblock-nbd on a unix socket; returns (process, uri)."""
        path = os.path.join(self.root, name + ".sock")
        log = open(os.path.join(self.dir, name + ".log"), "a")
        child = self.start(os.path.join(BIN, "fastblock-nbd"), image, "--unix", path, *args, stderr=log)
        log.close()
        if ready:
            wait_for("fastblock-nbd", lambda: os.path.exists(path) or child.poll() is not None)
            expect(child.poll() is None, "fastblock-nbd ended")
        return child, f"nbd+unix:///?socket={path}"


def end_in_order(number, _):
    """A signal ends a test by way of everything's close()."""
    raise SystemExit(128 + number)


def run_test(number, name, function, make, close):
    """Runs one test and says how it went; True: well."""
    current, began, good = None, time.monotonic(), True
    try:
        try:
            current = make()
            function(current)
        except Exception:
            if current:
                current.logs()
            raise
        finally:
            if current:
                close(current)
        print(f"ok {number} - {name} # {time.monotonic() - began:.1f} s", flush=True)
    except Exception as error:
        good = False
        tell(f"{name}: " + (str(error) if isinstance(error, Failure) else traceback.format_exc()))
        print(f"not ok {number} - {name}", flush=True)
    return good


def main(names, cluster=Cluster, **cluster_options):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end_in_order)
    tests = [(name, function) for name, function in names.items() if name.startswith("test_")]
    if len(sys.argv) > 1:
        tests = [t for t in tests if any(word in t[0] for word in sys.argv[1:])]
    failed, shared = 0, []

    def make():
        return cluster(**cluster_options)

    def make_shared():
        if not shared:
            shared.append(make())
            names.get("setup", lambda c: None)(shared[0])
        return shared[0]
    print(f"1..{len(tests)}", flush=True)
    try:
        for number, (name, function) in enumerate(tests, 1):
            if names.get("SHARED"):
                failed += not run_test(number, name, function, make_shared, lambda c: None)
            else:
                failed += not run_test(number, name, function, make, cluster.close)
    finally:
        for current in shared:
            current.close()
    sys.exit(1 if failed else 0)
