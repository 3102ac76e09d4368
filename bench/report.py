# SPDX-License-Identifier: Apache-2.0
"""What bench/compare makes of its measurements: ratios, goals, tables."""
from statistics import median

import writeback
from measure import FIGURES


class Results:
    """rounds[workload][side]: the measurements in order."""

    def __init__(self):
        self.rounds = {}

    def add(self, workload, side, figures):
        self.rounds.setdefault(workload, {}).setdefault(side, []).append(figures)

    def median(self, workload, side, figure):
        rounds = self.rounds.get(workload, {}).get(side)
        return median(r[figure] for r in rounds) if rounds else None

    def ratios(self, over, under, figure):
        """Of each round; `over` and `under` are (workload, side). Empty: not measured."""
        a, b = (self.rounds.get(workload, {}).get(side, []) for workload, side in (over, under))
        return [x[figure] / y[figure] for x, y in zip(a, b)]

    def ratio(self, over, under, figure):
        ratios = self.ratios(over, under, figure)
        return median(ratios) if ratios else None


# What is asked for: text, figure, of which workload, against which side, "<=" or ">=", bound.
SIDE_GOALS = [
    ("CPU per 4 KiB write, depth 32, nothing to write back", "cpu", "4k-randwrite-qd32-hot", "floor", "<=", 2.2),
    ("CPU per 4 KiB write, depth 32, with write-back", "cpu", "4k-randwrite-qd32", "floor", "<=", 3),
    ("CPU per 4 KiB write, depth 32", "cpu", "4k-randwrite-qd32", "ceph", "<=", 1 / 50),
    ("IOPS, 4 KiB random write, depth 32", "iops", "4k-randwrite-qd32", "floor", ">=", 0.45),
    ("IOPS, 4 KiB random write, depth 128", "iops", "4k-randwrite-qd128", "floor", ">=", 0.45),
    ("IOPS, 4 KiB random write, depth 32", "iops", "4k-randwrite-qd32", "ceph", ">=", 50),
    ("IOPS, 4 KiB random write, depth 128", "iops", "4k-randwrite-qd128", "ceph", ">=", 50),
    ("latency, 4 KiB write, depth 1, p50", "p50", "4k-randwrite-qd1", "floor", "<=", 1.3),
    ("latency, 4 KiB write, depth 1, p99", "p99", "4k-randwrite-qd1", "floor", "<=", 1.3),
    ("latency, 4 KiB write, depth 1, p50", "p50", "4k-randwrite-qd1", "ceph", "<=", 1 / 14),
    ("latency, 4 KiB write, depth 1, p99", "p99", "4k-randwrite-qd1", "ceph", "<=", 1 / 14),
    ("latency, 4 KiB read, depth 1, p50", "p50", "4k-randread-qd1", "floor", "<=", 1.4),
    ("IOPS, 4 KiB random read, depth 128", "iops", "4k-randread-qd128", "floor", ">=", 0.4),
    ("IOPS, 4 KiB random read, depth 128", "iops", "4k-randread-qd128", "ceph", ">=", 10),
    ("throughput, 1 MiB write, depth 8", "mb_s", "1m-write-qd8", "floor", ">=", 0.75),
    ("throughput, 1 MiB write, depth 8", "mb_s", "1m-write-qd8", "ceph", ">=", 2.3),
    ("throughput, 1 MiB read, depth 8", "mb_s", "1m-read-qd8", "ceph", ">=", 2),
]
VITASTOR_GOALS = [
    ("CPU per 4 KiB write, depth 32", "cpu", "4k-randwrite-qd32", "<=", 1 / 4),
    ("IOPS, 4 KiB random write, depth 32", "iops", "4k-randwrite-qd32", ">=", 3),
    ("IOPS, 4 KiB random write, depth 128", "iops", "4k-randwrite-qd128", ">=", 3),
    ("latency, 4 KiB write, depth 1, p50", "p50", "4k-randwrite-qd1", "<=", 1 / 2),
    ("latency, 4 KiB write, depth 1, p99", "p99", "4k-randwrite-qd1", "<=", 1 / 2),
    ("IOPS, 4 KiB random read, depth 128", "iops", "4k-randread-qd128", ">=", 2.5),
]
VITASTOR_SIDES = ["vitastor", "vitastor-csum"]
IMAGE_GOALS = ["4k-randwrite-qd32", "4k-randwrite-qd128", "4k-randread-qd128", "1m-write-qd8"]


def worst_goals(results, side):
    """Better in everything: a row per figure, of the workload in which we stand worst."""
    rows = []
    for text, figure, how in (("IOPS", "iops", ">="), ("p99", "p99", "<="), ("CPU per request", "cpu", "<=")):
        ratios = {w: results.ratios((w, "fastblock"), (w, side), figure) for w in results.rounds}
        ratios = {w: r for w, r in ratios.items() if r}
        if ratios:
            worst = (min if how == ">=" else max)(ratios, key=lambda w: median(ratios[w]))
            rows.append((f"{text}, the worst of {len(ratios)} workloads ({worst}), against {side}", how, 1, ratios[worst], False))
    return rows


def goals(results, own):
    """Rows (text, comparison, bound, of each round, against the floor?); what was not measured in this run is left out."""
    rows = [(f"{text}, against {side}", how, bound, results.ratios((workload, "fastblock"), (workload, side), figure), side == "floor")
            for text, figure, workload, side, how, bound in SIDE_GOALS]
    for side in VITASTOR_SIDES:
        rows += [(f"{text}, against {side}", how, bound, results.ratios((workload, "fastblock"), (workload, side), figure), False)
                 for text, figure, workload, how, bound in VITASTOR_GOALS]
        rows += worst_goals(results, side)
    rows += [(f"IOPS, one image against eight, {workload}", ">=", 0.9,
              results.ratios((workload, "fastblock"), (workload + "-8images", "fastblock"), "iops"), False) for workload in IMAGE_GOALS]
    rows += [("CPU per 4 KiB write, depth 32, 256 PGs against 8", "<=", 1.1, own.get("pgs_cpu_ratios", []), False),
             ("idle cluster with 256 PGs: % of one core, all daemons", "<=", 0.5, own.get("idle_percent", []), False)] + writeback.goals(own.get("writeback", []))
    return [row + (verdict(*row[1:]),) for row in rows if row[3]]


def verdict(how, bound, rounds, floor):
    """Said only of what the rounds agree on. Nothing is better than the floor: a round that is shows a disturbed measurement."""
    better = [r > 1 if how == ">=" else r < 1 for r in rounds]
    met = [r >= bound if how == ">=" else r <= bound for r in rounds]
    if floor and any(better):
        return "unknown: a round beats the floor"
    if any(met) != all(met):
        return "unknown: the rounds disagree"
    return "yes" if met[0] else "NO"


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def print_limits(rows):
    print("\n| the machine alone | per second | MB/s | p50 us | p99 us |\n|---|---|---|---|---|")
    for what, m in rows:
        print(f"| {what} | {number(m['iops'])} | {number(m.get('mb_s'))} | {number(m['p50'])} | {number(m['p99'])} |")


def print_table(results, sides):
    print("\n| workload | side | IOPS | (range) | MB/s | p50 us | p99 us | p99.9 us | CPU us per I/O |\n|---|---|---|---|---|---|---|---|---|")
    for workload, by_side in results.rounds.items():
        for side in sides:
            if side not in by_side:
                continue
            iops = [r["iops"] for r in by_side[side]]
            cells = [number(results.median(workload, side, figure)) for figure in FIGURES]
            cells.insert(1, f"{number(min(iops))}..{number(max(iops))}")
            print(f"| {workload if side == 'fastblock' else ''} | {side} | " + " | ".join(cells) + " |")
        for side in sides[1:]:
            ratios = [results.ratio((workload, "fastblock"), (workload, side), figure) for figure in FIGURES]
            if ratios[0] is not None:
                cells = [number(r) for r in ratios]
                cells.insert(1, "")
                print(f"| | *fastblock / {side}* | " + " | ".join(f"*{c}*" if c else "" for c in cells) + " |")


def print_goals(rows):
    if not rows:
        return
    print("\n| goal | asked for | measured | rounds | met |\n|---|---|---|---|---|")
    for text, how, bound, rounds, _, met in rows:
        print(f"| {text} | {how} {number(bound)} | {number(median(rounds))} | {number(min(rounds))}..{number(max(rounds))} | {met} |")
