"""Clusters of other shapes: two balancers, IPv6, several networks, wrong addresses."""

import time

from .cluster import until
from .isolation import KNOWS_NOTHING, RESOLVER
from .net import Network, Place
from .report import counted


def two_balancers(cluster, report, _length):
    """Each has the whole pool, a drain is acknowledged by both, and one may go for good."""
    first = cluster.balancer("ha")
    second = cluster.balancer("hb", options=["--join", cluster.ha], named=False)
    seeds = [cluster.ha, second.address]
    nodes = cluster.nodes(4, join=seeds)
    lacking = 0
    for balancer in (first, second):
        cluster.ready(balancer, nodes)
        lacking += len({node.name for node in nodes} - set(balancer.servers()))
    report.none("two balancers: servers lacking in either pool", lacking)
    loads = [cluster.load(balancer, pace=150) for balancer in (first, second)]
    time.sleep(1)
    late = []
    for node in nodes[:2]:
        asked = node.stop()
        node.process.wait()
        late += [max(0.0, load.last(node.name) - asked) for load in loads]
    report.times("two balancers: a leave stops new requests at both", late, p99=0.1)
    first.process.kill()
    killed = time.monotonic()
    time.sleep(1)
    loads[0].stop()
    # The seed is gone for good; the other one is enough for nodes that come and nodes that go.
    came = [cluster.node(f"late{number}", join=seeds) for number in range(3)]
    report.times("one of two balancers is gone: a node that joins is routed", [node.first_routed() for node in came], p99=1.0)
    nodes[2].stop()
    status = nodes[2].process.wait()
    until("the dead balancer is declared failed", lambda: second.status("ha") == "failed")
    loads[1].stop()
    failures = loads[0].failures()
    for trouble, count in loads[1].failures().items():
        failures[trouble] += count
    for one in loads[0].done:
        # Those of the balancer that was killed are nobody's fault.
        if one.trouble and one.ended >= killed - 0.1:
            failures[one.trouble] -= 1
    failures = +failures
    total = sum(len(load.done) for load in loads)
    report.none("two balancers: failed requests, but for those of the killed one", sum(failures.values()), counted(failures), f" of {total}")
    report.none("one of two balancers is gone: status of an agent that leaves", status)


def ipv6(cluster, report, _length):
    """No IPv4 anywhere."""
    balancer = cluster.balancer()
    cluster.load(balancer)
    times = [node.first_routed() for node in cluster.nodes(3)]
    report.times("IPv6 alone: app answers -> first routed request", times, p99=0.3)


def two_networks(cluster, report, _length):
    """A node's default route leads to a network that the balancer is not on."""
    balancer = cluster.balancer()
    cluster.load(balancer)
    place = Place(Network(), "two", 20)
    place.attach(cluster.network, 200)
    node = cluster.node("two", place=place)
    report.times("a node on two networks: app answers -> first routed request", [node.first_routed()], p99=0.3)
    address = balancer.members()["two"]["address"]
    right = address == f"{cluster.network.address(200)}:7946"
    report.line("a node on two networks: advertised address", "the common network's", address, right)


def silent_dns(cluster, report, _length):
    """The name of the balancer is in /etc/hosts, and the DNS server does not answer."""
    balancer = cluster.balancer()
    cluster.load(balancer)
    RESOLVER.write_text(f"nameserver {cluster.network.address(253)}\n")
    try:
        took = cluster.node("one").first_routed()
    finally:
        RESOLVER.write_text(KNOWS_NOTHING)
    report.times("DNS is silent, /etc/hosts has the name: routed", [took], p99=0.3)


def wrong_address(cluster, report, _length):
    """An address that is not the one which others see is warned about on both ends; a right one is not."""
    balancer = cluster.balancer()
    cluster.load(balancer)
    good = cluster.place("good")
    told = cluster.node("good", place=good, options=["--advertise", good.address])
    report.times("--advertise: app answers -> first routed request", [told.first_routed()], p99=0.3)
    wrong = cluster.node("wrong", options=["--advertise", cluster.network.address(250)])
    warning = "we advertise one address and are seen at another"
    found = bool(until("the agent warns", lambda: wrong.process.find(warning), 5))
    time.sleep(2)
    routed = "wrong" in balancer.servers()
    clean = not told.process.find("seen at another")
    report.line("--advertise of another address: warned about, not routed", "yes", f"warned {found}, routed {routed}", found and not routed and clean)
