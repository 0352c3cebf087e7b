"""What is compared: how each balancer is configured, started and asked for its version."""

import os
import sys
import time
from pathlib import Path

from .nginx import KEEP_ALIVE_REQUESTS, nginx_command, nginx_configuration
from .origins import fetch
from .processes import START_DEADLINE, Failure, Process, first_line, free_port, tool


class Balancer:
    """One balancer, running, for one work."""

    name = ""

    def __init__(self, bench, work):
        self.bench = bench
        self.work = work
        self.port = free_port()
        self.requests = 0  # answered in all runs of wrk
        self.directory = bench.directory / f"{self.name}-{work.key}"
        self.directory.mkdir()
        self.process = Process(self.name, self.command(), bench.balancer_cpus, self.directory)

    def command(self):
        raise NotImplementedError

    def forget_log(self):
        for log in self.directory.glob("*.out"):
            os.truncate(log, 0)

    def await_both_servers(self):
        """Waits until requests reach both servers."""
        deadline = time.monotonic() + START_DEADLINE
        seen = set()
        while len(seen) < 2:
            self.process.must_run()
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} did not find both servers within {START_DEADLINE:.0f} s")
            try:
                seen.add(fetch(self.port)["x-origin"])
            except (OSError, Failure):
                time.sleep(0.05)

    def stop(self):
        self.process.stop()


class Lb(Balancer):
    name = "lb"
    workers = 1

    def command(self):
        first, second = self.bench.origins
        return [
            self.bench.lb,
            *("--listen", f"127.0.0.1:{self.port}", "--stats", f"127.0.0.1:{free_port()}"),
            *("--gossip", "off", "--workers", self.workers, "--cookie", "SERVERID"),
            *("--server", f"s1=127.0.0.1:{first}", "--server", f"s2=127.0.0.1:{second}"),
            # Standard output is a file.
            *("--log-format", "json" if self.work.access_log else "off"),
        ]

    @staticmethod
    def version(bench):
        return first_line([bench.lb, "--version"])


class Haproxy(Balancer):
    name = "HAProxy"

    def command(self):
        first, second = self.bench.origins
        log = f"log {self.start_drain()} local0" if self.work.access_log else ""
        configuration = self.directory / "haproxy.cfg"
        configuration.write_text(f"""\
global
    nbthread 1
    maxconn 4096
    {log}
defaults
    mode http
    {"log global" if log else ""}
    {"option httplog" if log else ""}
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend localnodes
    bind 127.0.0.1:{self.port}
    http-request set-header X-Forwarded-Port %[dst_port]
    default_backend nodes
backend nodes
    balance roundrobin
    option forwardfor
    option httpchk HEAD /
    http-reuse {self.work.haproxy_reuse}
    cookie SERVERID insert indirect nocache
    server s1 127.0.0.1:{first} check cookie s1
    server s2 127.0.0.1:{second} check cookie s2
listen stats
    bind 127.0.0.1:{free_port()}
    stats enable
    stats uri /
""")
        return [tool("haproxy"), "-db", "-f", configuration]

    def start_drain(self):
        """Starts a reader of log lines, where a syslog daemon would be; its socket."""
        path = self.directory / "log"
        program = Path(__file__).with_name("drain.py")
        # Not among the files that `forget_log` empties: it says its number at the end, once.
        directory = self.directory / "drain"
        directory.mkdir()
        self.drain = Process("drain", [sys.executable, program, path], self.bench.load_cpus, directory)
        deadline = time.monotonic() + START_DEADLINE
        while not path.exists():
            self.drain.must_run()
            if time.monotonic() > deadline:
                raise Failure(f"the reader of HAProxy's log did not start within {START_DEADLINE:.0f} s")
            time.sleep(0.01)
        return path

    def stop(self):
        super().stop()
        if self.work.access_log:
            self.drain.stop()

    def share_of_log_read(self):
        """How much of the access log arrived, known once all has stopped: HAProxy drops what finds the socket full."""
        lines = int(Path(self.drain.output.name).read_text())
        return min(lines / self.requests, 1.0)

    @staticmethod
    def version(_bench):
        return first_line([tool("haproxy"), "-v"])


class Nginx(Balancer):
    name = "nginx"

    def command(self):
        first, second = self.bench.origins
        log = self.directory / "access.out"
        configuration = nginx_configuration(self.directory, f"""\
    access_log {f"{log} combined" if self.work.access_log else "off"};
    keepalive_timeout 60s;
    keepalive_requests {KEEP_ALIVE_REQUESTS};
    client_body_buffer_size {self.work.nginx_body_buffer};
    # No response goes through a file: it would cost nginx time that the others don't spend.
    proxy_max_temp_file_size 0;
    upstream nodes {{
        server 127.0.0.1:{first};
        server 127.0.0.1:{second};
        keepalive 256;
        keepalive_requests {KEEP_ALIVE_REQUESTS};
    }}
    server {{
        listen 127.0.0.1:{self.port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_connect_timeout 5s;
            proxy_read_timeout 50s;
            proxy_send_timeout 50s;
        }}
    }}
""")
        return nginx_command(self.directory, configuration)

    @staticmethod
    def version(_bench):
        return first_line([tool("nginx"), "-v"])
