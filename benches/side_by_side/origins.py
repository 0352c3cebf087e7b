"""The two servers behind the balancers, and one request by hand to see that something answers."""

import socket
import time

from .nginx import KEEP_ALIVE_REQUESTS, nginx_command, nginx_configuration
from .processes import START_DEADLINE, Failure, Process


def start_origins(bench):
    """Two servers in one nginx: the same for all balancers, and cheap enough to leave room for the load."""
    directory = bench.directory / "origins"
    directory.mkdir()
    (directory / "10k").write_bytes(b"x" * 10_000)
    (directory / "1m").write_bytes(b"x" * 1_000_000)
    servers = "".join(f"""\
    server {{
        listen 127.0.0.1:{port};
        root {directory};
        default_type text/plain;
        add_header X-Origin {name};
        location = / {{ return 200 "{'x' * 100}"; }}
        location = /post {{ return 200 "{'x' * 100}"; }}
    }}
""" for name, port in zip(("s1", "s2"), bench.origins))
    configuration = nginx_configuration(directory, f"""\
    access_log off;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    keepalive_timeout 300s;
    keepalive_requests {KEEP_ALIVE_REQUESTS};
{servers}""", workers=bench.load_threads)
    process = Process("origins", nginx_command(directory, configuration), bench.load_cpus, directory)
    deadline = time.monotonic() + START_DEADLINE
    for port in bench.origins:
        while True:
            process.must_run()
            try:
                fetch(port)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise Failure(f"the servers behind the balancers did not start: {error}") from error
                time.sleep(0.05)


def fetch(port, method="GET", path="/", size=100, body=0):
    """One request by hand; the headers of its answer, whose status and size, in bytes, are checked."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n"
        if body:
            head += f"Content-Length: {body}\r\n"
        connection.sendall(head.encode() + b"\r\n" + b"x" * body)
        answer = bytearray()
        while chunk := connection.recv(65_536):
            answer += chunk
    head, _, content = bytes(answer).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = lines[0].split(" ")[1] if " " in lines[0] else lines[0]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    if status != "200" or len(content) != size:
        raise Failure(f"expected status 200 and {size} bytes for {path}, got {status} and {len(content)} bytes")
    return headers
