"""What was measured, beside what was wanted."""

import math
import sys
import threading
import time

BEGAN = time.monotonic()
LOCK = threading.Lock()


def progress(text):
    with LOCK:
        print(f"[{time.monotonic() - BEGAN:5.0f} s] {text}", file=sys.stderr, flush=True)


class Report:
    """A line for each case: what it is, the target, what was measured, and whether that is good enough."""

    def __init__(self):
        self.missed = []
        self.lines = []

    def line(self, case, target, measured, good):
        """`good` is None where nothing is judged."""
        verdict = {True: "ok", False: "MISSED", None: "-"}[good]
        with LOCK:
            self.lines.append((case, target, measured, verdict))
            print(f"{case:<58}  {target:<24}  {measured:<58}  {verdict}", flush=True)
        if good is False:
            self.missed.append(case)

    def times(self, case, seconds, p99, p50=math.inf, wanted=None):
        """Judges durations by their percentiles. A missing one (None) is missed."""
        target = f"p99 <= {duration(p99)}" + ("" if p50 == math.inf else f", p50 <= {duration(p50)}")
        found = sorted(one for one in seconds if one is not None)
        lacking = (wanted or len(seconds)) - len(found)
        if not found:
            return self.line(case, target, "never", False)
        measured = (
            f"p50 {duration(percentile(found, 50))}, p99 {duration(percentile(found, 99))}, "
            f"max {duration(found[-1])} of {len(found)}" + (f", {lacking} NEVER" if lacking else "")
        )
        return self.line(case, target, measured, not lacking and percentile(found, 99) <= p99 and percentile(found, 50) <= p50)

    def none(self, case, count, details="", of=""):
        self.line(case, "0", f"{count}{of}" + (f" ({details})" if details else ""), count == 0)


def percentile(ordered, percent):
    """The nearest rank: with few samples the 99th is the largest."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def duration(seconds):
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def counted(counter):
    return ", ".join(f"{count} x {what}" for what, count in sorted(counter.items()))
