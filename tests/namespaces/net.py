"""Bridges, and members on them."""

import ipaddress
import itertools
import re
import subprocess
import threading
import time

from .isolation import HOSTS

# Clusters that run at one time have different numbers, and so have the networks of one that has two.
NUMBERS = itertools.count(1)
# A name may be there twice, as those of containers that are gone are.
PLACES = itertools.count(1)
LOCK = threading.RLock()


def ip(*words):
    return subprocess.run(["ip", *map(str, words)], check=True, capture_output=True, text=True).stdout


class Network:
    """A bridge that the script has the first address of, and a second one behind a cable that can be cut."""

    def __init__(self, version=4):
        with LOCK:
            self.number = next(NUMBERS)
        self.version = version
        self.prefix = f"10.{self.number}.0." if version == 4 else f"fd00:{self.number:x}::"
        self.bits = 24 if version == 4 else 64
        self.gateway = self.address(1)
        self.near, self.far, self.cable = (f"{kind}{self.number}" for kind in ("near", "far", "cable"))
        for bridge in (self.near, self.far):
            ip("link", "add", bridge, "type", "bridge")
            ip("link", "set", bridge, "up")
        ip("link", "add", self.cable, "type", "veth", "peer", "name", f"{self.cable}x")
        ip("link", "set", self.cable, "master", self.near, "up")
        ip("link", "set", f"{self.cable}x", "master", self.far, "up")
        ip("addr", "add", f"{self.gateway}/{self.bits}", *self.no_wait(), "dev", self.near)

    def address(self, host):
        return f"{self.prefix}{host:x}" if self.version == 6 else f"{self.prefix}{host}"

    def no_wait(self):
        """IPv6 addresses are usable only after a second, unless nobody asks whether others have them."""
        return ("nodad",) if self.version == 6 else ()

    def cut(self):
        """Who is far is unreachable from now on; nobody gets an answer, nor an error."""
        ip("link", "set", self.cable, "down")

    def mend(self):
        ip("link", "set", self.cable, "up")


class Place:
    """A member's network namespace: what a container has, its address, link and route."""

    def __init__(self, network, name, host, far=False):
        self.name = f"{name}.{network.number}.{next(PLACES)}"
        self.networks = []
        ip("netns", "add", self.name)
        self.inside("link", "set", "lo", "up")
        self.attach(network, host, far)
        self.inside("route", "add", "default", "via", network.gateway)

    def attach(self, network, host, far=False):
        """Puts it on one more network; the first one has the default route."""
        address = network.address(host)
        device = f"eth{len(self.networks)}"
        cable = f"v{network.number}-{host}"
        # Hardware addresses that follow from IP addresses, as Docker makes them: whoever inherits an address is
        # reached at once, and not when others' tables of neighbours have aged.
        packed = ipaddress.ip_address(address).packed[-4:]
        hardware = "02:42:" + ":".join(f"{byte:02x}" for byte in packed)
        ip("link", "add", cable, "type", "veth", "peer", "name", device, "netns", self.name)
        ip("link", "set", cable, "master", network.far if far else network.near, "up")
        self.inside("link", "set", device, "address", hardware)
        self.inside("addr", "add", f"{address}/{network.bits}", *network.no_wait(), "dev", device)
        self.inside("link", "set", device, "up")
        # The kernel may take a second to notice: until then the bridge drops what is sent there, and whoever asked for the
        # hardware address asks again only after another second.
        deadline = time.monotonic() + 5
        while "state UP" not in ip("-o", "link", "show", "dev", cable) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.networks.append((network, address, cable))

    def go_by_gateway(self):
        """Reaches everybody by way of the script. The kernel has one table of neighbours for all namespaces, with room
        for about a thousand: too little for fifty members who each know all others."""
        network, address, _ = self.networks[0]
        self.inside("addr", "flush", "dev", "eth0", "scope", "global")
        self.inside("addr", "add", f"{address}/32", "dev", "eth0")
        self.inside("route", "add", network.gateway, "dev", "eth0")
        self.inside("route", "replace", "default", "via", network.gateway)

    @property
    def address(self):
        return self.networks[0][1]

    def inside(self, *words):
        ip("-n", self.name, *words)

    def rules(self, text):
        """Replaces what its packet filter does."""
        self.run("nft", "-f", "-", input="flush ruleset\n" + text)

    def lose(self, percent):
        """Loses datagrams of the cluster on their way in. On every member, that is loss both ways."""
        self.rules(
            "table inet loss { chain in { type filter hook input priority 0;\n"
            f"udp dport 7946 counter\n"
            f"udp dport 7946 numgen random mod 100 < {percent} counter drop\n}}\n}}\n"
        )

    def lost(self):
        """Datagrams that came, and how many of them were lost."""
        came, lost = re.findall(r"counter packets (\d+)", self.run("nft", "list", "ruleset"))
        return int(came), int(lost)

    def unplug(self):
        """The host is gone: no reset, no error, no answer."""
        for _, _, cable in self.networks:
            ip("link", "set", cable, "down")

    def traffic(self):
        """Bytes received and sent so far by all interfaces but loopback, as the kernel counts them."""
        lines = self.run("cat", "/proc/net/dev").splitlines()[2:]
        columns = [line.replace(":", " ").split() for line in lines]
        return tuple(sum(int(row[column]) for row in columns if row[0] != "lo") for column in (1, 9))

    def run(self, *command, **options):
        ran = subprocess.run(
            ["ip", "netns", "exec", self.name, *map(str, command)],
            check=True, capture_output=True, text=True, **options,
        )
        return ran.stdout

    def remove(self):
        for _, _, cable in self.networks:
            ip("link", "del", cable)
        ip("netns", "del", self.name)


def name_is(name, *addresses):
    """What a name means from now on, in /etc/hosts: no address takes it away."""
    with LOCK:
        lines = [line for line in HOSTS.read_text().splitlines() if line.split()[1:] != [name]]
        lines += [f"{address} {name}" for address in addresses]
        # In place: see `isolation.enter`.
        with open(HOSTS, "r+", encoding="ascii") as file:
            file.write("\n".join(lines) + "\n")
            file.truncate()
