"""Programs: where they are, how they are started on chosen processors, what they use, and how they end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

START_DEADLINE = 20.0  # seconds until a program must be ready
STOP_DEADLINE = 5.0  # seconds between asking a process to stop and killing it
# Debian packages whose names are not those of their programs.
PACKAGES = {"h2load": "nghttp2-client"}
RUNNING = []


class Failure(Exception):
    """Something that the person who runs this can mend; printed in one line."""


class Missing(Failure):
    """A tool that isn't installed."""


class Process:
    """A child in a session of its own, so that its processes can be counted, and stopped, together."""

    def __init__(self, name, command, cpus, directory):
        self.name = name
        # Appended to, so that an access log can be emptied while its writer has it open.
        self.output = open(directory / f"{name}.out", "ab")
        self.errors = open(directory / f"{name}.err", "ab")
        self.child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.errors,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        RUNNING.append(self)

    def processor_time(self):
        """Seconds that all processes of the session have computed, for themselves and in the kernel."""
        ticks = 0
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            session, user, system = int(fields[3]), int(fields[11]), int(fields[12])
            if session == self.child.pid:
                ticks += user + system
        return ticks / os.sysconf("SC_CLK_TCK")

    def must_run(self):
        if self.child.poll() is not None:
            lines = Path(self.errors.name).read_text(errors="replace").strip().splitlines()
            said = f": {lines[-1]}" if lines else ""
            raise Failure(f"{self.name} ended with status {self.child.returncode}{said}")

    def stop(self):
        if self in RUNNING:
            RUNNING.remove(self)
        # nginx ends at once on SIGTERM and HAProxy too; lb would let requests end first, and there are none.
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.child.pid, signal_number)
            except ProcessLookupError:
                pass
            try:
                self.child.wait(STOP_DEADLINE)
                break
            except subprocess.TimeoutExpired:
                continue
        self.output.close()
        self.errors.close()


def stop_all():
    for process in list(RUNNING):
        process.stop()


def run_on(cpus, command, timeout):
    """Runs a program to its end on these processors; what it printed."""
    try:
        return subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
    except subprocess.TimeoutExpired as expired:
        raise Failure(f"{command[0]} did not end within {timeout:.0f} s") from expired


def tool(name):
    # Debian keeps daemons where an ordinary user's PATH does not lead.
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"no {name} (apt-get install {PACKAGES.get(name, name)})")
    return path


def first_line(command):
    """How a program calls itself and its version."""
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    lines = (ran.stdout + ran.stderr).strip().splitlines()
    return lines[0].replace("nginx version: ", "").partition(" - ")[0] if lines else f"{command[0]} (unknown version)"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def progress(text):
    print(text, file=sys.stderr, flush=True)
