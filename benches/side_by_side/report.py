"""How results are printed: Markdown, medians, and ratios with the range of single runs."""

import os
import platform
import statistics
from pathlib import Path


def print_table(titles, rows, left=1):
    """A table whose first columns, `left` of them, are words."""
    print_row(titles)
    print_row([*["---"] * left, *["---:"] * (len(titles) - left)])
    for row in rows:
        print_row(row)


def print_row(cells):
    print(f"| {' | '.join(str(cell) for cell in cells)} |")


def median(samples, figure):
    return statistics.median(getattr(sample, figure) for sample in samples)


def ratio(ours, theirs, figure):
    """The ratio of the medians."""
    below = median(theirs, figure)
    return median(ours, figure) / below if below else float("nan")


def ratio_with_range(ours, theirs, figure):
    """The ratio of the medians, and how far the ratios of single runs were apart."""
    pairs = ((getattr(our, figure), getattr(their, figure)) for our, their in zip(ours, theirs))
    single = sorted(our / their if their else float("nan") for our, their in pairs)
    return f"{ratio(ours, theirs, figure):.2f} ({single[0]:.2f} to {single[-1]:.2f})"


def machine():
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{os.cpu_count()} processors, {model}, Linux {platform.release()}"


def numbers(cpus):
    """Processors, in words."""
    return f"processor{'s' if len(cpus) > 1 else ''} {', '.join(str(cpu) for cpu in sorted(cpus))}"
