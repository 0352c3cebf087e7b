"""Loss and partitions."""

import threading
import time

from .cluster import Late, until
from .report import duration, progress

LOSSY = {"short": 60, "long": 600}
CUT = {"short": 20, "long": 60}
PERCENT = 30


def loss(cluster, report, length):
    """Ten members lose three of ten datagrams, each way."""
    balancer = cluster.balancer()
    nodes = cluster.nodes(9)
    cluster.ready(balancer, nodes)
    for member in [balancer, *nodes]:
        member.place.lose(PERCENT)
    load = cluster.load(balancer, pace=50)
    seconds = LOSSY[length]
    time.sleep(seconds)
    # Whoever is declared dead somewhere hears of it and says so, also where the balancer was not taken in by it.
    down = [line for member in [balancer, *nodes] for line in member.process.find("had given us up")]
    per_hour = len(down) / ((len(nodes) + 1) * seconds / 3600)
    told = len(balancer.failed_members())
    out = balancer.process.find(r"Server nodes/\S+ (is DOWN|left|was removed|is gone)")
    counts = [member.place.lost() for member in [balancer, *nodes]]
    came, lost = (sum(column) for column in zip(*counts))
    report.line(f"{PERCENT} % loss: datagrams lost", "(told)", f"{lost} of {came}", None if lost else False)
    report.line(f"{PERCENT} % loss for {seconds} s: false downs", "<= 1 per node-hour", f"{len(down)} ({per_hour:.0f} per node-hour), {told} seen by the balancer", per_hour <= 1)
    report.none(f"{PERCENT} % loss: servers taken out", len(out), "; ".join(line[-60:] for _, line in out[:3]))
    failures = load.failures()
    report.none(f"{PERCENT} % loss: failed requests", sum(failures.values()), "", f" of {len(load.done)}")
    # A node that comes now must get in, too.
    late = cluster.place("late")
    late.lose(PERCENT)
    took = cluster.node("late", place=late).first_routed()
    load.stop()
    report.line(f"{PERCENT} % loss: a node that joins is routed", "(told)", duration(took) if took else "never", None if took else False)


def mended(cluster, balancer, nodes, load):
    """Ends a cut; how long it takes until each node on its other side has answered a request."""
    cluster.network.mend()
    at = time.monotonic()
    times = []
    for node in nodes:
        try:
            times.append(until(f"{node.name} is routed", lambda node=node: load.first(node.name, at)) - at)
        except Late:
            times.append(None)
    return at, times


def half(cluster, report, length):
    """Half of the nodes are cut off from the balancer."""
    balancer = cluster.balancer()
    near, far = cluster.nodes(3, prefix="near"), cluster.nodes(3, prefix="far", far=True)
    cluster.ready(balancer, [*near, *far])
    load = cluster.load(balancer, pace=100, users=16)
    cluster.network.cut()
    time.sleep(CUT[length])
    progress(f"half of the nodes cut off: the balancer has {sorted(balancer.servers())}")
    at, times = mended(cluster, balancer, far, load)
    report.times(f"cut of {CUT[length]} s, half of the nodes: routed again", times, p99=1.0)
    settled(report, f"cut of {CUT[length]} s, half of the nodes: all alive again", at, lambda: len(balancer.view()) == 7)
    load.stop()


def pair(cluster, report, length):
    """One balancer and one node, each alone during the cut."""
    balancer = cluster.balancer()
    node = cluster.node("far", far=True)
    cluster.ready(balancer, [node])
    load = cluster.load(balancer, pace=50, users=32, patience=3)
    cluster.network.cut()
    time.sleep(CUT[length])
    at, times = mended(cluster, balancer, [node], load)
    report.times(f"cut of {CUT[length]} s, one balancer and one node: routed again", times, p99=1.0)
    settled(report, f"cut of {CUT[length]} s, one balancer and one node: alive again", at, lambda: len(balancer.view()) == 2)
    load.stop()


def sides(cluster, report, length):
    """A balancer on either side, each with nodes."""
    here = cluster.balancer("ha")
    there = cluster.balancer("hb", options=["--join", cluster.ha], far=True, named=False)
    seeds = [here.address, there.address]
    nodes = [*cluster.nodes(3, prefix="near", join=seeds), *cluster.nodes(3, prefix="far", join=seeds, far=True)]
    for balancer in (here, there):
        cluster.ready(balancer, nodes)
    cluster.network.cut()
    time.sleep(CUT[length])
    views = [{}, {}]

    def look(index, balancer):
        views[index] = balancer.view()

    for index, balancer in enumerate((here, there)):
        look(index, balancer)
    parted = f"{sorted(views[0])} and {sorted(views[1])}"
    progress(f"two balancers, parted: {parted}")
    cluster.network.mend()
    at = time.monotonic()

    def equal():
        threads = [threading.Thread(target=look, args=pair) for pair in enumerate((here, there))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return views[0] == views[1] and len(views[0]) == 8

    settled(report, f"cut of {CUT[length]} s, a balancer on either side: views equal", at, equal)


def settled(report, case, at, condition):
    try:
        until(case, condition, pause=0.05)
        report.times(case, [time.monotonic() - at], p99=5.0)
    except Late:
        report.times(case, [None], p99=5.0)
