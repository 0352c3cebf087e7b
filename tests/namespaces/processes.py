"""Processes of members: each is PID 1 of its own process namespace, as in a container."""

import os
import re
import signal
import subprocess
import threading
import time

from .isolation import children

RUNNING = set()
KEPT = 100_000  # lines
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Process:
    """A process and what it said, line by line, with the time at which it arrived here."""

    def __init__(self, place, name, command, environment=None):
        # Its host name is its own, too.
        wrapper = ("unshare", "--pid", "--uts", "--mount-proc", "--fork", "--kill-child", "--")
        renamed = ("sh", "-c", 'echo "$0" >/proc/sys/kernel/hostname && exec "$@"', name)
        self.name = name
        self.lines = []
        self.wrapper = subprocess.Popen(
            ["ip", "netns", "exec", place.name, *wrapper, *renamed, *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})}, text=True, errors="replace",
        )
        RUNNING.add(self)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.pid = self.find_pid()

    def read(self):
        for line in self.wrapper.stdout:
            if line.startswith("unshare: "):
                continue  # its own trouble with children that were killed
            self.lines.append((time.monotonic(), COLOUR.sub("", line.rstrip())))
            if len(self.lines) > KEPT:
                del self.lines[: KEPT // 2]

    def find_pid(self):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.wrapper.poll() is None:
            if found := children(self.wrapper.pid):
                return found[0]
            time.sleep(0.002)
        raise RuntimeError(f"{self.name} did not start: {self.said()}")

    def signal(self, number):
        """To the process alone, not to those that it started. It may have ended."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self):
        """SIGKILL to all of its namespace at once: the kernel does that when PID 1 dies."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds=30):
        status = self.wrapper.wait(seconds)
        self.reader.join(5)
        RUNNING.discard(self)
        return status

    def runs(self):
        return self.wrapper.poll() is None

    def find(self, pattern, since=0.0):
        """Times and lines that match, from a time on."""
        wanted = re.compile(pattern)
        return [(at, line) for at, line in list(self.lines) if at >= since and wanted.search(line)]

    def said(self, lines=15):
        return "\n".join(line for _, line in self.lines[-lines:])

    def resident(self):
        """KiB of its memory, without the processes that it started."""
        with open(f"/proc/{self.pid}/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    def processor_time(self):
        """Seconds that all of its threads have computed."""
        total = 0
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/schedstat", encoding="ascii") as stat:
                total += int(stat.read().split()[0])
        return total / 1e9
