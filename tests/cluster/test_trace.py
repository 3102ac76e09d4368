# SPDX-License-Identifier: Apache-2.0
"""test_trace.py SOURCE BUILD: every TRACE() of the product is a note in the program that has it, with its arguments.

Where <sys/sdt.h> is missing there are none, and nothing to test."""
import os
import re
import subprocess
import sys
import tempfile

SOURCE, BUILD = sys.argv[1:]
PROGRAMS = {"osd": "fastblock-osd", "store": "fastblock-osd", "client": "fastblock"}


def notes(program):
    out = subprocess.run(["readelf", "-n", os.path.join(BUILD, "src/cmd", program)], stdout=subprocess.PIPE, check=True, text=True).stdout
    return {name: len(arguments.split()) for name, arguments in
            re.findall(r"Provider: fastblock\n\s*Name: (\w+)\n\s*Location:.*\n\s*Arguments: (.*)", out)}


def traces(room):
    for folder, _, files in os.walk(os.path.join(SOURCE, "src", room)):
        for name in (n for n in files if n.endswith(".c")):
            with open(os.path.join(folder, name)) as f:
                for stage, arguments in re.findall(r"\bTRACE\((\w+),((?:[^();]|\([^()]*\))*)\);", f.read()):
                    yield stage, arguments.count(",") - len(re.findall(r"\([^()]*,[^()]*\)", arguments)) + 1


with tempfile.TemporaryDirectory() as tmp:
    has = subprocess.run(["gcc", "-E", "-include", "sys/sdt.h", "-x", "c", "/dev/null", "-o", os.path.join(tmp, "out")],
                         stderr=subprocess.DEVNULL, check=False).returncode == 0
if not has:
    print("1..0 # SKIP sys/sdt.h is missing")
    sys.exit(0)
wanted = [(room, stage, count) for room in PROGRAMS for stage, count in sorted(set(traces(room)))]
documented = open(os.path.join(SOURCE, "docs/performance.md")).read()
print(f"1..{len(wanted) + 1}")
failed = 0
for number, (room, stage, count) in enumerate(wanted, 1):
    good = notes(PROGRAMS[room]).get(stage) == count and f"`{stage}`" in documented
    failed += not good
    print(f"{'ok' if good else 'not ok'} {number} - {stage} of {room}: {count} arguments, and in docs/performance.md")
enough = len(wanted) >= 8
print(f"{'ok' if enough else 'not ok'} {len(wanted) + 1} - {len(wanted)} tracepoints in all")
sys.exit(1 if failed or not enough else 0)
