"""A cluster of lb's own processes: balancers and nodes, and what the balancers say of them."""

import csv
import json
import signal
import sys
import time
from pathlib import Path

from .load import Load, get
from .net import Network, Place, name_is
from .processes import Process

APP = Path(__file__).resolve().parent / "app.py"
STATS = 1936
PORT = 3000
PATIENCE = 20.0  # seconds for what is no measurement


class Late(Exception):
    """Something that had to happen did not."""


def until(what, condition, seconds=PATIENCE, pause=0.01):
    """Waits for a condition; what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Late(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)
    return found


class Balancer:
    def __init__(self, cluster, place, options):
        self.cluster, self.place = cluster, place
        self.name = place.name.partition(".")[0]
        family = "[::]" if cluster.network.version == 6 else ""
        self.process = Process(place, self.name, [
            cluster.lb, "--listen", f"{family}:80", "--stats", f"{family}:{STATS}", "--log-format", "off", *options,
        ])

    @property
    def address(self):
        return self.place.address

    def answers(self):
        try:
            return get(self.address, "/healthz", STATS, timeout=0.5)[0] > 0
        except OSError:
            return False

    def members(self):
        """Rows of /members by name. None when it cannot be asked."""
        try:
            return {row["name"]: row for row in json.loads(get(self.address, "/members", STATS)[2])}
        except (OSError, ValueError):
            return None

    def status(self, name):
        row = (self.members() or {}).get(name)
        return row and row["status"]

    def view(self):
        """Who is alive, as `lb members` prints it, asked from inside: it works across a cut, too."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        printed = self.place.run(self.cluster.lb, "members", "--stats", f"{host}:{STATS}", "--format", "json")
        return {row["name"]: row["tags"]["node"] for row in json.loads(printed) if row["status"] == "alive"}

    def servers(self):
        """Rows of the CSV by server."""
        text = get(self.address, "/;csv", STATS)[2].removeprefix("# ")
        rows = csv.DictReader(text.splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == "nodes" and row["svname"] != "BACKEND"}

    def up(self):
        try:
            return {name for name, row in self.servers().items() if row["status"].startswith("UP")}
        except OSError:
            return set()

    def failed_members(self, since=0.0):
        """Names that it has reported as failed, with times."""
        return [(at, field(line, "name")) for at, line in self.process.find(r"member-failed", since)]


class Node:
    def __init__(self, cluster, place, options, app, name=None, environment=None):
        self.cluster, self.place = cluster, place
        self.name = name or place.name.partition(".")[0]
        command = [cluster.lb, "agent", "--port", PORT, "--name", self.name, *options]
        if app:
            command += ["--", sys.executable, "-ISs", APP, self.name, PORT]
        self.process = Process(place, self.name, command, environment)

    @property
    def address(self):
        return self.place.address

    def told(self, what):
        """When the app said something, by its own account."""
        found = self.process.find(f"^app {what} at ")
        return float(found[0][1].rpartition(" ")[2]) if found else None

    def listening(self):
        return until(f"the app of {self.name} listens", lambda: self.told("listening"))

    def first_routed(self, seconds=PATIENCE):
        """From the app's first breath to its first request; None when there was none in time."""
        listening = self.listening()
        try:
            return until("", lambda: self.told("first request"), seconds, pause=0.005) - listening
        except Late:
            return None

    def stop(self):
        """A graceful leave: when it was asked for."""
        at = time.monotonic()
        self.process.signal(signal.SIGTERM)
        return at

    def kill(self):
        """Agent and app at once: when."""
        at = time.monotonic()
        self.process.kill()
        return at

    def remove(self):
        if self.process.runs():
            self.process.kill()
        self.place.remove()


class Cluster:
    """Members on one network. Used as a context, it ends with all that it started."""

    def __init__(self, lb, version=4):
        self.lb = lb
        self.network = Network(version)
        self.host = 10
        self.ha = f"ha{self.network.number}"
        self.members = []
        self.loads = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for load in self.loads:
            load.stopping.set()
        for member in self.members:
            if member.process.runs():
                member.process.kill()

    def place(self, name, host=None, far=False):
        if host is None:
            self.host += 1
            host = self.host
        return Place(self.network, name, host, far)

    def balancer(self, name="ha", options=(), place=None, far=False, named=True, wait=True):
        """Started and listening. `named` gives its address the name that nodes join."""
        balancer = Balancer(self, place or self.place(name, far=far), options)
        self.members.append(balancer)
        if named:
            name_is(self.ha, balancer.address)
        if wait:
            until(f"{name} answers", balancer.answers)
        return balancer

    def node(self, name, options=(), place=None, far=False, app=True, join=None, environment=None):
        joined = [word for seed in (join or [self.ha]) for word in ("--join", seed)]
        node = Node(self, place or self.place(name, far=far), [*joined, *options], app, name, environment)
        self.members.append(node)
        return node

    def nodes(self, count, prefix="s", **options):
        return [self.node(f"{prefix}{number}", **options) for number in range(1, count + 1)]

    def ready(self, balancer, nodes, seconds=PATIENCE):
        """Waits until the balancer sends requests to all of them."""
        names = {node.name for node in nodes}
        until(f"{balancer.name} has {sorted(names)} up", lambda: names <= balancer.up(), seconds, pause=0.05)

    def load(self, balancer, **options):
        load = Load(balancer.address, **options)
        self.loads.append(load)
        return load


def field(line, name):
    """The value of `name=value` in a line of the log."""
    return next((word.partition("=")[2] for word in line.split() if word.startswith(f"{name}=")), None)
