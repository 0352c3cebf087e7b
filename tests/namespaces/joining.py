"""How fast members come and go."""

import time

from .cluster import Late, until
from .load import get
from .report import counted, duration, progress

CYCLES = {"short": 20, "long": 50}
LATE_STARTS = {"short": 4, "long": 20}
RESTARTS = {"short": 3, "long": 10}
CHANGES = {"short": 3, "long": 10}


def churn(cluster, report, length):
    """Nodes join and leave under load, one after the other."""
    balancer = cluster.balancer()
    cluster.ready(balancer, cluster.nodes(2, prefix="stays"))
    load = cluster.load(balancer)
    joins, stops, ended = [], [], 0
    for cycle in range(CYCLES[length]):
        node = cluster.node(f"n{cycle}")
        joins.append(node.first_routed())
        # Some requests are in flight when it is told to go.
        until(f"{node.name} serves", lambda: sum(one.server == node.name for one in load.done[-200:]) > 20)
        asked = node.stop()
        ended += node.process.wait() == 0
        last = load.last(node.name)
        stops.append(max(0.0, last - asked))
        node.place.remove()
        if cycle % 5 == 4:
            progress(f"churn: {cycle + 1} nodes came and went, the last was routed after {duration(joins[-1] or 99)}")
    load.stop()
    report.times("app answers -> first routed request", joins, p99=0.3)
    report.times("graceful leave: new requests stop", stops, p99=0.1)
    failures = load.failures()
    report.none("graceful leaves under load: failed requests", sum(failures.values()), counted(failures), f" of {len(load.done)}")
    report.none("graceful leaves: agents that ended with another status than 0", CYCLES[length] - ended)


def balancer_last(cluster, report, length):
    """The nodes are there before the balancer."""
    times = []
    for _ in range(LATE_STARTS[length]):
        nodes = cluster.nodes(3)
        for node in nodes:
            node.listening()
        # They have given up hope of a quick answer, and look again now and then.
        time.sleep(2)
        balancer = cluster.balancer()
        began = balancer.process.find("listening for traffic")[0][0]
        load = cluster.load(balancer, pace=400, patience=2)
        for node in nodes:
            until(f"{node.name} is routed", lambda node=node: node.told("first request"))
        times.append(max(node.told("first request") for node in nodes) - began)
        load.stop()
        balancer.process.kill()
        balancer.place.remove()
        for node in nodes:
            node.remove()
    report.times("balancer started last -> all 3 nodes routed", times, p99=1.5)


def balancer_moves(cluster, report, length):
    """The only balancer is killed and comes back under its name with another address."""
    balancer = cluster.balancer()
    nodes = cluster.nodes(3)
    cluster.ready(balancer, nodes)
    times = []
    for _ in range(RESTARTS[length]):
        balancer.process.kill()
        balancer.place.remove()
        time.sleep(1)
        balancer = cluster.balancer()
        began = balancer.process.find("listening for traffic")[0][0]
        load = cluster.load(balancer, pace=400, patience=2)
        firsts = [until(f"{node.name} is routed", lambda node=node: load.first(node.name, began)) for node in nodes]
        times.append(max(firsts) - began)
        load.stop()
    report.times("the only balancer restarts at a new address -> all routed", times, p99=2.0)


def name_moves(cluster, report, length):
    """A container dies, and one of the same name comes up at another address."""
    balancer = cluster.balancer()
    cluster.ready(balancer, cluster.nodes(2, prefix="stays"))
    node = cluster.node("moves")
    cluster.ready(balancer, [node])
    # Many users: those whom the dead one keeps waiting must not be all.
    load = cluster.load(balancer, users=48)
    times = []
    for _ in range(CHANGES[length]):
        node.kill()
        node = cluster.node("moves")
        times.append(node.first_routed())
        time.sleep(0.3)
    load.stop()
    report.times("same name at a new address: app answers -> routed", times, p99=1.0)
    failures = load.failures()
    report.none("same name at a new address: failed requests", sum(failures.values()), counted(failures), f" of {len(load.done)}")
    shown = sorted(name for name in balancer.servers() if name.startswith("moves"))
    report.line("same name at a new address: shown as", "(told)", ", ".join(shown), None)


def address_moves(cluster, report, length):
    """A container is gone with its namespace, and another one is made with its address."""
    balancer = cluster.balancer(options=["--cookie", "SERVERID"])
    stays = cluster.node("stays")
    cluster.ready(balancer, [stays])
    cluster.host += 1
    host = cluster.host
    times, inherited, boots = [], [], set()
    load = cluster.load(balancer, users=48)
    cookie = None
    for change in range(CHANGES[length] + 1):
        node = cluster.node(f"c{change}", place=cluster.place("reused", host))
        routed = node.first_routed()
        until(f"{node.name} is up", lambda: node.name in balancer.up())
        row = balancer.servers()[node.name]
        boots.add(balancer.members()[node.name]["tags"]["node"])
        if change > 0:
            times.append(routed)
            # A counter is inherited when the newcomer has more than can have come in since it is there.
            if int(row["stot"] or 0) >= served:
                inherited.append(f"{row['stot']} requests")
            given = get(balancer.address, "/", headers={"Cookie": cookie})[1].get("Set-Cookie")
            if not given:
                inherited.append("a session")
        cookie = cookie_of(balancer, node.name)
        served = until("it has served", lambda: (total := int(balancer.servers()[node.name]["stot"])) > 100 and total)
        node.remove()
    load.stop()
    report.times("same address, new container: app answers -> routed", times, p99=1.0)
    report.none("same address, new container: counters or sessions inherited", len(inherited), ", ".join(inherited))
    report.none("same address, new container: boots taken for each other", CHANGES[length] + 1 - len(boots))


def cookie_of(balancer, name):
    """A cookie that leads to that server."""
    for _ in range(50):
        _, headers, body = get(balancer.address, "/")
        if body == name:
            return headers["Set-Cookie"].partition(";")[0]
    raise Late(f"{name} is never chosen")
