"""The options and the course of every script: build lb, start the servers, measure, stop all."""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .origins import start_origins
from .processes import Failure, Missing, free_port, progress, stop_all, tool

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass
class Bench:
    """What all parts need to know."""

    directory: Path
    origins: tuple  # two ports
    balancer_cpus: set
    load_cpus: set
    load_threads: int  # of wrk, and as many of the servers
    lb: Path


def parser(description, epilog=None):
    """The options that all scripts have."""
    options = argparse.ArgumentParser(description=description.split("\n\n")[0], epilog=epilog)
    options.add_argument("--runs", type=whole, default=5, help="measured runs of each work and balancer [5]")
    options.add_argument("--seconds", type=whole, default=5, help="length of a run [5]")
    options.add_argument("--quick", action="store_true", help="one run of one second: shows that it works, no more")
    options.add_argument("--lb", type=Path, metavar="FILE", help="the lb to measure [built from this tree]")
    options.add_argument("--if-possible", action="store_true", help="end with status 0 when a tool is not installed")
    return options


def run(options, tools, processors, measure):
    """Runs `measure(bench, options)` between starting and stopping all else; the exit status.

    `processors` says which ones the balancer and the load get, and how many threads the load has: see `apart`.
    """
    if options.quick:
        options.runs = options.seconds = 1
    # An ordinary exit, so that nothing keeps running behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for name in tools:
            tool(name)
        lb = (options.lb or built_lb()).resolve()
        if not os.access(lb, os.X_OK):
            raise Failure(f"{lb} is no program that can be started")
        placed = processors(sorted(os.sched_getaffinity(0)))
        with tempfile.TemporaryDirectory(prefix="lb-bench-") as directory:
            try:
                bench = Bench(Path(directory), (free_port(), free_port()), *placed, lb)
                start_origins(bench)
                measure(bench, options)
            finally:
                stop_all()
    except Missing as missing:
        print(f"skipped: {missing}", file=sys.stderr)
        return 0 if options.if_possible else 1
    except Failure as failure:
        print(f"benches/{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def apart(available):
    """One processor for the balancer and one for everything else, whose load has one thread."""
    if len(available) < 2:
        progress("only one processor: everything shares it, so rates and latencies mean little")
    return {available[0]}, {available[-1]}, 1


def built_lb():
    progress("building lb (cargo build --release)")
    if subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "lb"], cwd=ROOT, check=False).returncode:
        raise Failure("cargo build --release failed")
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "lb"


def whole(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number
