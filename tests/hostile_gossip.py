"""Hostile datagrams at a balancer with one node: usage `hostile_gossip.py LB unsealed|sealed COUNT DIRECTORY`.

Started by tests/scripts/hostile-gossip, which says what is sent and what must hold; DIRECTORY has the keys `key` and `other`.
"""

import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

BATCH = 200
MOST_GROWTH = 1024  # KiB
# What the datagrams must be dropped for, or they were not what they claim to be.
REASONS = {
    "unsealed": ["record_address", "sealed", "malformed", "version", "unknown_kind"],
    "sealed": ["replayed", "not_authentic", "unknown_key", "unsealed", "malformed"],
}


def main(lb, variant, count, directory):
    seed = int(os.environ.get("LB_SIM_SEED", "7"))
    children = Children(lb, f"{directory}/{variant}")
    try:
        problems = attack(children, variant, int(count), directory, random.Random(seed), f"LB_SIM_SEED={seed}")
    finally:
        children.kill()
    for problem in problems:
        print(f"{variant}: {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def attack(children, variant, count, directory, chance, seed):
    keys = [f"--cluster-key-file={directory}/key"] if variant == "sealed" else []
    third, app = Counting(), Answering()
    relay = Relay()
    # Members speak straight with each other where they can: as long as the relay is what the balancer advertises, they can't.
    balancer = Balancer(children, [f"--advertise=127.0.0.1:{relay.port}", *keys])
    relay.target = balancer.gossip
    children.start(
        "node", "agent", f"--join=127.0.0.1:{relay.port}", "--gossip=127.0.0.1:0", "--name=s1", f"--port={app.port}", *keys
    )
    wait_until("the node joins", balancer.has_its_node)
    wait_until("the node says more than its first words", lambda: len(relay.recorded) > 30)
    recorded, relay.recorded = relay.recorded, None
    make = Hostile(chance, variant, recorded, strangers(children, variant, directory), balancer, third.port)
    # From another address than any member's.
    attacker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    attacker.bind(("127.0.0.2", 0))

    rows, reasons = balancer.members(), balancer.dropped()
    before, lost_before = balancer.data_memory(), balancer.socket_state()[1]
    begun, highest, pool = time.monotonic(), before, make.pool()
    for sent in range(0, count, BATCH):
        for number in range(sent, min(sent + BATCH, count)):
            attacker.sendto(pool[number % len(pool)], balancer.gossip)
        # So that each is read, and none lost in the queue.
        while balancer.socket_state()[0] > 0:
            time.sleep(0.0002)
        if sent % 50_000 == 0:
            highest = max(highest, balancer.data_memory())
            pool = make.pool()
    took = time.monotonic() - begun
    after, lost = balancer.data_memory(), balancer.socket_state()[1] - lost_before
    dropped = {reason: number - reasons.get(reason, 0) for reason, number in balancer.dropped().items()}
    print(
        f"{variant}: {count} datagrams in {took:.0f} s ({seed}, {lost} lost), data memory {before} KiB before, {after} KiB "
        f"after, {max(highest, after)} KiB at most, {third.connections} connections elsewhere\n"
        f"{variant}: dropped: {', '.join(f'{number} {reason}' for reason, number in sorted(dropped.items()) if number)}"
    )
    # Long enough for a member that was given up, or a server that was led astray, to show.
    time.sleep(3)
    now = balancer.members()
    problems = [
        (now != rows, f"the members have changed:\n  {rows}\n  {now}"),
        (after - before > MOST_GROWTH, f"it holds {after - before} KiB more than before"),
        (third.connections > 0, f"{third.connections} connections to an address that never joined"),
        (lost > count // 100, f"{lost} datagrams were lost before it read them"),
        (balancer.panics() != 0, f"{balancer.panics()} panics"),
        ("BUG in lb" in balancer.told(), "it has told of a bug"),
    ]
    problems += [(not dropped.get(reason), f"nothing was dropped as {reason}") for reason in REASONS[variant]]
    return [words for is_so, words in problems if is_so]


class Hostile:
    """Makes hostile datagrams."""

    def __init__(self, chance, variant, recorded, strangers, balancer, third):
        self.chance, self.recorded, self.strangers, self.third = chance, recorded, strangers, third
        self.node = int(balancer.members()[1]["tags"]["node"], 16)
        # Version, key and boot, and part of the counter; or the version alone.
        self.head = 29 if variant == "sealed" else 1
        self.spoilable = recorded if variant == "sealed" else strangers

    def pool(self):
        """Two thousand of each kind, shuffled."""
        kinds = [
            self.random,
            self.random_behind_a_good_head,
            self.truncated,
            lambda: self.chance.choice(self.recorded),
            lambda: self.chance.choice(self.strangers),
            self.spoiled,
            self.forged_record,
        ]
        pool = [kind() for kind in kinds for _ in range(2000)]
        self.chance.shuffle(pool)
        return pool

    def random(self):
        return self.chance.randbytes(self.chance.randrange(1400))

    def random_behind_a_good_head(self):
        return self.chance.choice(self.recorded)[: self.head] + self.chance.randbytes(self.chance.randrange(200))

    def truncated(self):
        whole = self.chance.choice(self.recorded)
        return whole[: self.chance.randrange(len(whole))]

    def spoiled(self):
        whole = self.chance.choice(self.spoilable)
        place = self.chance.randrange(len(whole))
        return whole[:place] + bytes([whole[place] ^ self.chance.randrange(1, 256)]) + whole[place + 1 :]

    def forged_record(self):
        """A record that says: the server named s1 is at 127.0.0.3 now."""
        node = self.chance.choice([self.node, self.chance.getrandbits(64)])
        address = bytes([0, 127, 0, 0, 3]) + varint(self.chance.randrange(1, 65536))
        sender = address + varint(self.chance.getrandbits(41)) + varint(node) + b"\1"
        record = varint(node) + text("s1") + varint(self.chance.randrange(100)) + text("nodes") + varint(self.third)
        up, no_tags = bytes([1]), varint(0)
        return b"\1\1" + sender + varint(self.chance.randrange(9)) + record + varint(1) + up + no_tags + text("")


def varint(number):
    """As postcard writes numbers."""
    bytes_ = bytearray()
    while number >= 128:
        bytes_.append(number & 127 | 128)
        number >>= 7
    return bytes(bytes_) + bytes([number])


def text(words):
    return varint(len(words)) + words.encode()


def strangers(children, variant, directory):
    """Greetings of a member with another key, and of one of the other sort."""
    other_sort = [] if variant == "sealed" else [f"--cluster-key-file={directory}/key"]
    greetings = []
    for arguments in ([f"--cluster-key-file={directory}/other"], other_sort):
        ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ear.bind(("127.0.0.1", 0))
        ear.settimeout(10)
        join = f"--join=127.0.0.1:{ear.getsockname()[1]}"
        stranger = children.start("stranger", "agent", join, "--gossip=127.0.0.1:0", "--name=s9", "--port=9", *arguments)
        greetings += [ear.recv(65536) for _ in range(3)]
        stranger.kill()
    return greetings


class Children:
    """Processes of lb; their logs begin with that path."""

    def __init__(self, lb, logs):
        self.lb, self.logs, self.all = lb, logs, []

    def start(self, name, *arguments):
        with open(f"{self.logs}-{name}.log", "w") as log:
            child = subprocess.Popen([self.lb, *arguments], stdout=subprocess.DEVNULL, stderr=log)
        self.all.append(child)
        return child

    def kill(self):
        for child in self.all:
            child.kill()


class Balancer:
    def __init__(self, children, keys):
        self.lb, self.log = children.lb, f"{children.logs}-balancer.log"
        arguments = ["--listen=127.0.0.1:0", "--stats=127.0.0.1:0", "--gossip=127.0.0.1:0", "--workers=1", *keys]
        self.child = children.start("balancer", *arguments)
        self.gossip = ("127.0.0.1", int(self.said("gossip on ").rsplit(":", 1)[1]))
        self.stats = self.said("stats page on http://")

    def told(self):
        with open(self.log) as log:
            return log.read()

    def said(self, words):
        """The word behind these in its log, as soon as it is there."""
        found = wait_until(f"it says '{words}'", lambda: re.search(re.escape(words) + r"([^\s/,]+)[\s/,]", self.told()))
        return found[1]

    def members(self):
        command = [self.lb, "members", f"--stats={self.stats}", "--format=json"]
        rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        # What was dropped is told in the notes, and may grow; times do.
        stable = ["name", "address", "status", "role", "tags"]
        return [{key: row[key] for key in stable} for row in rows]

    def has_its_node(self):
        rows = self.members()
        return [row["name"] for row in rows[1:]] == ["s1"] and all(row["status"] == "alive" for row in rows)

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.stats}/metrics", timeout=10) as response:
            return response.read().decode()

    def dropped(self):
        found = re.findall(r'^lb_cluster_dropped_datagrams_total\{reason="(\w+)"\} (\S+)', self.metrics(), re.M)
        return {reason: int(float(number)) for reason, number in found}

    def panics(self):
        return int(float(re.search(r"^lb_panics_total (\S+)", self.metrics(), re.M)[1]))

    def data_memory(self):
        with open(f"/proc/{self.child.pid}/status") as status:
            return int(re.search(r"^RssAnon:\s+(\d+)", status.read(), re.M)[1])

    def socket_state(self):
        """What waits in the socket's queue, and how much was lost for want of room."""
        with open("/proc/net/udp") as sockets:
            for line in sockets:
                fields = line.split()
                if fields[1].endswith(f":{self.gossip[1]:04X}"):
                    return int(fields[4].split(":")[1], 16), int(fields[-1])
        sys.exit(f"no socket at {self.gossip}; the balancer's status is {self.child.poll()}")


class Relay:
    """Between the node and the balancer. It keeps what the node says: true datagrams of a member."""

    def __init__(self):
        self.target, self.recorded = None, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.pass_on, daemon=True).start()

    def pass_on(self):
        node = None
        while True:
            bytes_, source = self.socket.recvfrom(65536)
            if source != self.target:
                node = source
                self.socket.sendto(bytes_, self.target)
                recorded = self.recorded
                if recorded is not None:
                    recorded.append(bytes_)
            elif node:
                self.socket.sendto(bytes_, node)


class Counting:
    """The server that nobody may be led to. It counts who comes."""

    def __init__(self):
        self.socket, self.connections = socket.create_server(("127.0.0.3", 0)), 0
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.count, daemon=True).start()

    def count(self):
        while True:
            self.socket.accept()[0].close()
            self.connections += 1


class Answering:
    """The application of the node, which is checked."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection = self.socket.accept()[0]
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection):
        while connection.recv(4096):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def wait_until(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not in time")
        time.sleep(0.02)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
