"""What happens when members die, vanish or stop for a while."""

import signal
import threading
import time

from .cluster import Late, until
from .report import counted, duration, progress

KILLS = {"short": 10, "long": 30}
UNPLUGGED = {"short": 2, "long": 10}
PAUSES = (3, 10, 30)
NODES = 9


def declared_failed(balancer, name, since):
    """How long it took until the balancer said that a member failed."""
    def found():
        return [at for at, member in balancer.failed_members(since) if member == name]

    try:
        return until(f"{name} is declared failed", found)[0] - since
    except Late:
        return None


def kill(cluster, report, length):
    """SIGKILL to a node's agent and app at once, in a cluster of ten."""
    balancer = cluster.balancer()
    nodes = cluster.nodes(NODES)
    cluster.ready(balancer, nodes)
    load = cluster.load(balancer)
    times = []
    for number in range(KILLS[length]):
        victim = nodes.pop(0)
        times.append(declared_failed(balancer, victim.name, victim.kill()))
        nodes.append(cluster.node(f"r{number}"))
        cluster.ready(balancer, nodes[-1:])
        victim.place.remove()
        if number % 3 == 2:
            progress(f"kill: {number + 1} killed")
    load.stop()
    report.times("SIGKILL of node and agent, 10 members: declared failed", times, p99=5.0, p50=3.0)
    failures = load.failures()
    report.none("SIGKILL under load: failed GETs", sum(failures.values()), counted(failures), f" of {len(load.done)}")
    false = {name for _, name in balancer.failed_members()} - {f"s{n}" for n in range(1, NODES + 1)} - {f"r{n}" for n in range(99)}
    report.none("SIGKILL: others declared failed", len(false), ", ".join(sorted(map(str, false))))


def unplug(cluster, report, length):
    """Hosts vanish: their links go down, so that nobody gets a reset."""
    balancer = cluster.balancer()
    nodes = cluster.nodes(NODES)
    cluster.ready(balancer, nodes)
    load = cluster.load(balancer, users=12)
    times, avoided = [], []
    for number in range(UNPLUGGED[length]):
        victim = nodes.pop(0)
        began = time.monotonic()
        victim.place.unplug()
        times.append(declared_failed(balancer, victim.name, began))
        until(f"{victim.name} is down", lambda: victim.name not in balancer.up(), pause=0.05)
        avoided.append(time.monotonic() - began)
        nodes.append(cluster.node(f"r{number}"))
        cluster.ready(balancer, nodes[-1:])
    load.stop()
    report.times("link down, 10 members: declared failed", times, p99=5.0, p50=3.0)
    slow = sum(one.took > 1 for one in load.done)
    failures = load.failures()
    report.line(
        "link down under load: what users saw",
        "(told)",
        f"{sum(failures.values())} failed of {len(load.done)} ({counted(failures) or 'none'}), {slow} took over 1 s, "
        f"slowest {duration(load.slowest())}; out of use after {duration(max(avoided))}",
        None,
    )


def pause_agents(cluster, report, _length):
    """SIGSTOP of three agents for 3, 10 and 30 seconds. Their apps run on."""
    balancer = cluster.balancer()
    watched = cluster.nodes(3, prefix="w")
    paused = [cluster.node(f"p{seconds}", environment={"LB_TRACE": "debug"}) for seconds in PAUSES]
    cluster.ready(balancer, [*watched, *paused])
    load = cluster.load(balancer, pace=60)
    began = time.monotonic()
    back, served, accused = {}, {}, {}

    def stop_for(node, seconds):
        node.process.signal(signal.SIGSTOP)
        time.sleep(seconds)
        served[node.name] = sum(one.server == node.name for one in load.done if one.began > began + 1)
        resumed = time.monotonic()
        node.process.signal(signal.SIGCONT)
        # One that was not missed at all is back at once.
        try:
            until(f"{node.name} is back", lambda: balancer.status(node.name) == "alive", 10)
            back[node.name] = time.monotonic() - resumed
        except Late:
            back[node.name] = None
        time.sleep(3)
        # What it says in these three seconds of anybody who lives.
        living = {member.address for member in [balancer, *watched]}
        accused[node.name] = [
            line for _, line in node.process.find("member-failed", resumed) if any(f"{one}:" in line for one in living)
        ]

    threads = [threading.Thread(target=stop_for, args=pair) for pair in zip(paused, PAUSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.stop()
    report.times("agents paused for 3, 10, 30 s: alive again after", [back.get(node.name) for node in paused], p99=2.0)
    wrong = [name for _, name in balancer.failed_members() if name not in {node.name for node in paused}]
    wrong += [f"by {name}" for name, lines in accused.items() if lines]
    report.none("agents paused: living members accused", len(wrong), ", ".join(map(str, wrong)))
    idle = [name for name, count in served.items() if not count]
    report.none("agents paused: apps that got no requests meanwhile", len(idle), ", ".join(idle))
    failures = load.failures()
    report.none("agents paused: failed requests", sum(failures.values()), counted(failures), f" of {len(load.done)}")


def pause_balancer(cluster, report, _length):
    """SIGSTOP of the only balancer."""
    balancer = cluster.balancer()
    nodes = cluster.nodes(4)
    cluster.ready(balancer, nodes)
    load = cluster.load(balancer, pace=100)
    routed, accused, removed = [], [], []
    for seconds in (3, 10):
        balancer.process.signal(signal.SIGSTOP)
        time.sleep(seconds)
        resumed = time.monotonic()
        balancer.process.signal(signal.SIGCONT)
        for node in nodes:
            first = until(f"{node.name} is routed", lambda node=node: load.first(node.name, resumed))
            routed.append(first - resumed)
        time.sleep(3)
        accused += [str(name) for _, name in balancer.failed_members(resumed)]
        removed += balancer.process.find("is DOWN|was removed|left:", resumed)
    load.stop()
    report.times("balancer paused for 3 and 10 s: each node routed again", routed, p99=2.0)
    report.none("balancer paused: nodes accused or taken out", len(accused) + len(removed), ", ".join(accused))
    failures = load.failures()
    report.none("balancer paused: failed requests", sum(failures.values()), counted(failures), f" of {len(load.done)}")
