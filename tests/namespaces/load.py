"""Users: requests at a steady pace over kept connections, each noted with its outcome."""

import http.client
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass
class Request:
    began: float
    ended: float
    server: str | None  # who answered; None when it failed
    trouble: str | None = None

    @property
    def took(self):
        return self.ended - self.began


class Load:
    """Runs until it is stopped. Pace is in requests a second; each of the users has one connection."""

    def __init__(self, address, pace=300, users=4, patience=15.0, port=80, path="/", keep=True):
        self.address, self.port, self.patience, self.path, self.keep = address, port, patience, path, keep
        self.done = []
        self.stopping = threading.Event()
        self.gap = users / pace
        self.users = [threading.Thread(target=self.user, args=(n,), daemon=True) for n in range(users)]
        for user in self.users:
            user.start()

    def user(self, number):
        due = time.monotonic() + number * self.gap / len(self.users)
        connection = None
        while not self.stopping.is_set():
            now = time.monotonic()
            if due > now:
                self.stopping.wait(due - now)
            # Whoever had to wait does not catch up: a balancer that is back is not to be flooded.
            due = max(due + self.gap, time.monotonic() - self.gap)
            connection = self.ask(connection)
        if connection:
            connection.close()

    def ask(self, connection):
        began = time.monotonic()
        try:
            if connection is None:
                connection = socket.create_connection((self.address, self.port), timeout=self.patience)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: app\r\nX-Load: 1\r\n\r\n".encode())
            status, server, closes = receive(connection)
        except (OSError, ValueError) as error:
            if connection:
                connection.close()
            self.done.append(Request(began, time.monotonic(), None, type(error).__name__))
            return None
        failed = None if status == 200 else f"status {status}"
        self.done.append(Request(began, time.monotonic(), None if failed else server, failed))
        if closes or not self.keep:
            connection.close()
            return None
        return connection

    def stop(self):
        self.stopping.set()
        for user in self.users:
            user.join(self.patience + 1)
        return self

    def failures(self, since=0.0):
        return Counter(one.trouble for one in list(self.done) if one.trouble and one.began >= since)

    def first(self, server, since):
        """When a request that began after `since` was first answered by that server; None when none was."""
        return min((one.ended for one in list(self.done) if one.server == server and one.began >= since), default=None)

    def last(self, server):
        """When the last request began that was answered by that server."""
        return max((one.began for one in list(self.done) if one.server == server), default=None)

    def slowest(self, since=0.0):
        return max((one.took for one in list(self.done) if one.began >= since), default=0.0)


def receive(connection):
    """Status, who answered, and whether the connection is to be closed."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += more(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(fields.get("content-length", 0))
    while len(body) < length:
        body += more(connection)
    return int(lines[0].split()[1]), fields.get("x-server"), fields.get("connection", "").lower() == "close"


def more(connection):
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed")
    return data


def get(address, path, port=80, timeout=5.0, headers=()):
    """One request over a connection of its own; status, headers and body."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()
