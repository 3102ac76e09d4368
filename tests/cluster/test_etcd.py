# SPDX-License-Identifier: Apache-2.0
"""A cluster whose monitor keeps its metadata in etcd: three members, of which one dies together with the monitor."""
from etcd import EtcdCluster
from harness import expect, main, wait_for


def images(c):
    return [(i["name"], i["id"], i["size_bytes"], i["generation"]) for i in c.json("image", "ls", "p")]


def test_monitor_and_a_member_die_and_come_back(c):
    c.pool_image()
    c.fb("image", "create", "p/second", "--size", "64M")
    before = images(c)
    child = c.hammer("run", background=True, time=8, blocks=2048)
    wait_for("the writer", lambda: c.json("image", "info", "p/i")["writer"])
    c.kill("mon", "etcd0")
    c.start_process("mon")  # on the two members that are left
    c.wait_active()
    expect(images(c) == before, "the images are not the same after the monitor's start")
    c.fb("image", "create", "p/third", "--size", "64M")
    c.start_process("etcd0")
    wait_for("etcd0", lambda: c.etcd_answers(0))
    c.kill("etcd1")  # under the running monitor
    # What is under way in a member that dies may be refused, as unknown; then it is tried again.
    wait_for("a change on the members that are left",
             lambda: c.fb("image", "create", "p/fourth", "--size", "64M", code=None) is not None and
             "fourth" in c.fb("image", "ls", "p"))
    result = c.hammer_result(child)
    expect(result["errors"] == 0 and result["writes"] > 100, f"hammer: {result}")
    checked = c.hammer("check")
    expect(checked["wrong"] == 0 and checked["errors"] == 0, f"check: {checked}")
    c.start_process("etcd1")
    wait_for("etcd1", lambda: c.etcd_answers(1))
    c.kill("mon")
    c.start_process("mon")
    c.wait_active()
    expect(len(c.json("image", "ls", "p")) == 4, "an image is missing")


main(globals(), cluster=EtcdCluster)
