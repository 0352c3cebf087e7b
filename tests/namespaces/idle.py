"""What a cluster costs that does nothing."""

import selectors
import statistics
import threading
import time

from .cluster import PORT
from .isolation import listener_in
from .report import progress

MEMBERS = {"short": 15, "long": 50}
SECONDS = {"short": 20, "long": 60}


class Apps(threading.Thread):
    """An app in each place, all served by this thread: fifty interpreters would be busier than what is measured."""

    def __init__(self):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()

    def add(self, place):
        listener = listener_in(place.name, PORT)
        listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ, "listener")

    def run(self):
        while True:
            for key, _ in self.selector.select(1):
                if key.data == "listener":
                    connection, _ = key.fileobj.accept()
                    connection.setblocking(False)
                    self.selector.register(connection, selectors.EVENT_READ, "connection")
                else:
                    self.answer(key.fileobj)

    def answer(self, connection):
        try:
            asked = connection.recv(65536)
            if asked:
                return connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except OSError:
            pass
        self.selector.unregister(connection)
        connection.close()


def idle(cluster, report, length):
    """Bytes at the interfaces of nodes, with the balancer's checks in them; memory and processor time of agents."""
    count = MEMBERS[length]
    apps = Apps()
    apps.start()
    at = cluster.place("ha")
    at.go_by_gateway()
    balancer = cluster.balancer(place=at)
    nodes = []
    for number in range(1, count):
        place = cluster.place(f"s{number}")
        place.go_by_gateway()
        apps.add(place)
        nodes.append(cluster.node(f"s{number}", place=place, app=False))
        if number % 10 == 0:
            progress(f"idle: {number} agents started")
    cluster.ready(balancer, nodes, 60)
    # The news of who has joined is told for a while.
    time.sleep(10)
    measure = [[node.place.traffic(), node.process.processor_time()] for node in nodes]
    began = time.monotonic()
    time.sleep(SECONDS[length])
    after = [[node.place.traffic(), node.process.processor_time()] for node in nodes]
    took = time.monotonic() - began
    received, sent = (
        [(late[0][way] - early[0][way]) / took / 1000 for early, late in zip(measure, after)] for way in (0, 1)
    )
    busy = [(late[1] - early[1]) / took * 100 for early, late in zip(measure, after)]
    resident = [node.process.resident() / 1024 for node in nodes]
    mean = [statistics.mean(way) for way in (received, sent)]
    report.line(
        f"idle, {count} members: traffic of a node, with checks", "<= 2 kB/s each way",
        f"in {mean[0]:.2f} kB/s (max {max(received):.2f}), out {mean[1]:.2f} (max {max(sent):.2f})", max(mean) <= 2,
    )
    report.line(f"idle, {count} members: memory of an agent", "<= 8 MiB", f"median {statistics.median(resident):.1f}, max {max(resident):.1f} MiB", max(resident) <= 8)
    report.line(f"idle, {count} members: processor time of an agent", "<= 0.2 %", f"median {statistics.median(busy):.2f} %, max {max(busy):.2f} %", statistics.median(busy) <= 0.2)
    false = balancer.failed_members()
    report.none(f"idle, {count} members: members declared failed", len(false), ", ".join(str(name) for _, name in false))
