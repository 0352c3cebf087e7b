"""The namespaces in which all else is made, and which take it away when they end."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

MARK = "LB_NAMESPACES_INSIDE"
HOSTS = Path("/etc/hosts")
RESOLVER = Path("/etc/resolv.conf")
# Of a DNS server that knows no name, as the one of a network of containers does not before a container is there.
DNS = ("10.255.255.1", "fd00:ffff::1")
KNOWS_NOTHING = "".join(f"nameserver {address}\n" for address in DNS) + "options ndots:0\n"
FLAGS = ("--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")


def why_not():
    """What is missing, or None."""
    for tool, package in {"unshare": "util-linux", "ip": "iproute2", "nft": "nftables"}.items():
        if shutil.which(tool) is None:
            return f"no {tool} (Debian package {package})"
    if os.geteuid() != 0:
        return "making network namespaces takes root"
    if subprocess.run(["unshare", *FLAGS, "true"], check=False, capture_output=True).returncode:
        return "no right to make namespaces"
    return None


def enter(directory):
    """Starts this program anew inside, and returns there; outside it never returns.

    Names are those of files in `directory`, written in place: processes that see them bound over those in /etc would not
    see others.
    """
    if os.getpid() != 1 or MARK not in os.environ:
        environment = {**os.environ, MARK: "1"}
        child = subprocess.Popen(["unshare", *FLAGS, sys.executable, *again()], env=environment)
        for number in (signal.SIGINT, signal.SIGTERM):
            # unshare ignores them, and its child has things to say before it ends.
            signal.signal(number, lambda number, _: tell(child.pid, number))
        status = child.wait()
        sys.exit(status if status >= 0 else 128 - status)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    for file, text in {HOSTS: "127.0.0.1 localhost\n", RESOLVER: KNOWS_NOTHING}.items():
        ours = directory / file.name
        ours.write_text(text)
        subprocess.run(["mount", "--bind", ours, file], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for setting, value in {"ip_forward": 1, "conf/all/send_redirects": 0, "conf/default/send_redirects": 0}.items():
        Path(f"/proc/sys/net/ipv4/{setting}").write_text(f"{value}\n")
    for address in DNS:
        words = ["nodad"] if ":" in address else []
        subprocess.run(["ip", "addr", "add", address, *words, "dev", "lo"], check=True)
        threading.Thread(target=know_nothing, args=(address,), daemon=True).start()


def know_nothing(address):
    """A DNS server that says of every name that it is not there (RFC 1035, section 4.1.1: NXDOMAIN)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        while True:
            query, client = server.recvfrom(4096)
            question = query[12:].partition(b"\0")[0]
            # One question, no records: what was added to it (EDNS) is left out.
            header = query[:2] + b"\x81\x83\0\1" + bytes(6)
            server.sendto(header + query[12 : 12 + len(question) + 5], client)


def tell(unshare, number):
    for child in children(unshare):
        os.kill(child, number)


def children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def listener_in(namespace, port):
    """A listening socket of another network namespace, in this process: a socket stays where it was made."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    theirs = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(theirs, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
        finally:
            libc.setns(ours, 0x40000000)
    finally:
        os.close(ours)
        os.close(theirs)


def again():
    """The words that started this program; a package was started by its name."""
    package = sys.modules["__main__"].__package__
    return ["-m", package, *sys.argv[1:]] if package else sys.argv
