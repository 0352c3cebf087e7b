"""Runs the cases; see tests/scripts/cluster."""

import argparse
import os
import sys
import threading
import traceback
from pathlib import Path

from . import cuts, failing, idle, isolation, joining, shapes
from .cluster import Cluster
from .report import Report, progress

# Those that mostly wait run side by side, the others one after the other: they measure.
TOGETHER = [cuts.loss, cuts.half, cuts.pair, cuts.sides, failing.pause_agents, failing.pause_balancer, failing.unplug]
ALONE = [
    joining.churn, joining.balancer_last, joining.balancer_moves, joining.name_moves, joining.address_moves,
    failing.kill, shapes.two_balancers, shapes.ipv6, shapes.two_networks, shapes.silent_dns,
    shapes.wrong_address, idle.idle,
]


def run(case, options, report, broken):
    name = case.__name__
    progress(f"{name}: {case.__doc__.splitlines()[0]}")
    with Cluster(options.lb, version=6 if case is shapes.ipv6 else 4) as cluster:
        try:
            case(cluster, report, options.length)
        except Exception:  # one case that breaks must not keep the others from being measured
            broken.append(name)
            progress(f"{name} broke:\n{traceback.format_exc()}")
            for member in cluster.members[-8:]:
                progress(f"--- {member.name} said:\n{member.process.said()}")
        if options.logs:
            for number, member in enumerate(cluster.members):
                lines = [f"{at:.3f} {line}\n" for at, line in member.process.lines]
                (options.logs / f"{name}-{number}-{member.name}.log").write_text("".join(lines))


def forget(program):
    """Lets the system read it from the disk again: what a linker has just written lies in memory in large pieces, of which
    each process maps more than it touches, and weighs a megabyte more by it."""
    with open(program, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main():
    parser = argparse.ArgumentParser(prog="tests/scripts/cluster")
    parser.add_argument("--lb", required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--long", dest="length", action="store_const", const="long", default="short")
    parser.add_argument("--logs", type=Path)
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    known = {case.__name__: case for case in [*TOGETHER, *ALONE]}
    if unknown := [name for name in options.cases if name not in known]:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(known)}")
    isolation.enter(options.directory)
    forget(options.lb)
    wanted = options.cases or list(known)
    report, broken = Report(), []
    together = [case for name, case in known.items() if name in wanted and case in TOGETHER]
    threads = [threading.Thread(target=run, args=(case, options, report, broken)) for case in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, case in known.items():
        if name in wanted and case not in TOGETHER:
            run(case, options, report, broken)
    if report.missed or broken:
        print(f"missed: {'; '.join(report.missed) or 'nothing'}; broken: {', '.join(broken) or 'nothing'}", flush=True)
        return 1
    return 0


sys.exit(main())
