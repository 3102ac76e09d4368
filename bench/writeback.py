# SPDX-License-Identifier: Apache-2.0
"""What writing back costs the requests and the device: own goals of bench/compare, on a cluster with a small cache.

A hot image of 8 MiB is overwritten in memory before much of it is written back (its D tells), one of 16 times the cache is not. The two are measured in turns,
so that p99.9 with write-back over that without compares neighbours in time. The device bytes are counted by the OSDs, and so are the terms that
they should be the sum of, per payload byte:

    1 + 1/E + D + 1/B    the log, its headers (E blocks of payload to a block of header), destaged blocks, pages (B destaged blocks to a page)"""
from statistics import median

from fastblock import HOT_BYTES, Fastblock
from measure import Workload

CACHE_BYTES = 32 << 20
IMAGE_BYTES = 16 * CACHE_BYTES
RANDOM = Workload("4k-randwrite-qd32", "randwrite", 4096, 32)
LARGE = Workload("1m-write-qd8", "write", 1 << 20, 8)
BLOCK = 4096


class Counters:
    """Sums over all OSDs since `then`."""

    def __init__(self, fb):
        self.now = [fb.call("perf", f"osd.{osd}")[0]["counters"] for osd in range(3)]

    def since(self, then, name):
        return sum(a[name] - b[name] for a, b in zip(self.now, then.now))


def amplification(now, then):
    """(measured, by the formula, the terms 1/E, D and 1/B)."""
    payload = now.since(then, "store.payload_bytes")
    terms = [(now.since(then, "store.log_bytes") - now.since(then, "store.log_payload_bytes")) / payload,
             now.since(then, "store.destage_bytes") / payload, now.since(then, "store.page_writes") * BLOCK / payload]
    through = (now.since(then, "store.log_payload_bytes") + now.since(then, "store.large_bytes")) / payload
    return now.since(then, "core.blk_bytes_written") / payload, through + sum(terms), terms


def measure(fb, image, workload, seconds):
    before = Counters(fb)
    figures = fb.measure([image], workload, seconds)
    after = Counters(fb)
    figures["amplification"], figures["formula"], figures["terms"] = amplification(after, before)
    return figures


def writeback(directory, spin, seconds, repeat):
    """Rounds of {"hot", "cold", "large"}: figures with the amplification."""
    fb = Fastblock(directory, IMAGE_BYTES, spin, cache_bytes=CACHE_BYTES)
    try:
        fb.up_empty()
        fb.call("pool", "create", "p")
        fb.wait_active()
        fb.create("p/cold", IMAGE_BYTES)
        fb.create("p/hot", HOT_BYTES)
        fb.measure(["p/cold"], RANDOM, 1)  # pages and chunks of all objects are there, and destage has begun
        return [{"hot": measure(fb, "p/hot", RANDOM, seconds), "cold": measure(fb, "p/cold", RANDOM, seconds),
                 "large": measure(fb, "p/cold", LARGE, seconds)} for _ in range(repeat)]
    finally:
        fb.down()


def goals(rounds):
    """As of goals() in bench/compare."""
    def each(text, bound, value):
        return (text, "<=", bound, [value(r) for r in rounds], False)

    return [each("p99.9, 4 KiB random write, depth 32, with write-back over without", 3, lambda r: r["cold"]["p999"] / r["hot"]["p999"]),
            each("device bytes per byte, 4 KiB random write, image of 16 caches", 2.1, lambda r: r["cold"]["amplification"]),
            each("device bytes per byte, 1 MiB sequential write", 1.1, lambda r: r["large"]["amplification"]),
            each("device bytes counted over 1 + 1/E + D + 1/B, 4 KiB random write", 1.02, lambda r: r["cold"]["amplification"] / r["cold"]["formula"])]


def print_rounds(rounds):
    if not rounds:
        return
    print("\n| written back | IOPS | p99.9 us | CPU us per I/O | device bytes per byte | by the formula | 1/E | D | 1/B |\n|---|---|---|---|---|---|---|---|---|")
    for name in rounds[0]:
        each = [r[name] for r in rounds]
        cells = [median(e[key] for e in each) for key in ("iops", "p999", "cpu", "amplification", "formula")]
        cells += [median(e["terms"][i] for e in each) for i in range(3)]
        print(f"| {name} | " + " | ".join(f"{c:,.0f}" if c >= 1000 else f"{c:.3f}" for c in cells) + " |")
