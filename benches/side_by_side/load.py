"""The load: what is asked of the balancers, by wrk as fast as it goes, or by h2load at a steady rate."""

import json
from dataclasses import dataclass, field

from .origins import fetch
from .processes import Failure, first_line, run_on, tool

WARM_UP = 1  # seconds of load before the first run of a work
PATIENCE = 30  # seconds that a load may take longer than it was told
SETTLE = 0.5  # seconds at the beginning of a steady load that are not counted


@dataclass(frozen=True)
class Work:
    """One kind of load: a row of the result. Another kind is another entry in WORKS."""

    key: str
    name: str
    path: str
    size: int  # bytes of the response's body, checked before measuring
    method: str = "GET"
    body: int = 0  # bytes of the request's body
    headers: dict = field(default_factory=dict)
    connections: int = 64
    access_log: bool = False
    haproxy_reuse: str = "safe"  # HAProxy's default
    nginx_body_buffer: str = "16k"  # nginx's default; longer bodies of requests go through a file


CLOSE = {"Connection": "close"}
WORKS = [
    Work("get", "GET 100 B, keep-alive", "/", 100),
    Work("get-10k", "GET 10 KB, keep-alive", "/10k", 10_000),
    Work("get-1m", "GET 1 MB, keep-alive", "/1m", 1_000_000),
    Work("post-64k", "POST 64 KB, keep-alive", "/post", 100, method="POST", body=65_536),
    Work(
        "post-64k-memory",
        "POST 64 KB, keep-alive, nginx holds it in memory",
        "/post",
        100,
        method="POST",
        body=65_536,
        nginx_body_buffer="128k",
    ),
    Work("close", "GET 100 B, a connection per request", "/", 100, headers=CLOSE),
    Work(
        "close-reuse",
        "a connection per request, HAProxy reuses always",
        "/",
        100,
        headers=CLOSE,
        haproxy_reuse="always",
    ),
    Work("log", "GET 100 B, keep-alive, access log on", "/", 100, access_log=True),
]


@dataclass
class Sample:
    """One run of one work against one balancer, as fast as it went."""

    cpu: float  # microseconds of processor time per request
    busy: float  # processors that the balancer kept busy
    rate: float  # requests per second
    p50: float  # milliseconds
    p99: float  # milliseconds


@dataclass
class SteadySample:
    """One run at a steady rate."""

    rate: float  # requests per second that were begun
    p50: float  # milliseconds
    p99: float  # milliseconds
    p999: float  # milliseconds


def start(bench, work, kinds):
    """Starts balancers that answer and are warm. They start anew for each work: none inherits connections."""
    balancers = [kind(bench, work) for kind in kinds]
    for balancer in balancers:
        balancer.await_both_servers()
        fetch(balancer.port, work.method, work.path, work.size, work.body)
        wrk(bench, work, balancer, WARM_UP)
    return balancers


def in_turn(balancers, run):
    """Each goes first in turn: the one after a pause may find the processor in another state."""
    first = run % len(balancers)
    return balancers[first:] + balancers[:first]


def measure(bench, work, balancer, seconds):
    """A Sample of a load without limit."""
    before = balancer.process.processor_time()
    result = wrk(bench, work, balancer, seconds)
    used = balancer.process.processor_time() - before
    balancer.process.must_run()
    balancer.forget_log()
    if result["status"] or result["broken"]:
        raise Failure(
            f"{balancer.name}, {work.name}: {result['status']} error answers and {result['broken']} broken connections"
            f" in {result['requests']} requests"
        )
    if not result["requests"]:
        raise Failure(f"{balancer.name}, {work.name}: no request was answered")
    return Sample(
        cpu=used * 1e6 / result["requests"],
        busy=used * 1e6 / result["microseconds"],
        rate=result["requests"] * 1e6 / result["microseconds"],
        p50=result["p50"] / 1e3,
        p99=result["p99"] / 1e3,
    )


def wrk(bench, work, balancer, seconds):
    """Runs wrk; what its script prints at the end."""
    script = bench.directory / f"{work.key}.lua"
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in work.headers.items())
    script.write_text(f"""\
wrk.method = "{work.method}"
{f'wrk.body = string.rep("x", {work.body})' if work.body else ""}
{headers}
done = function(summary, latency)
    local errors = summary.errors
    io.write(string.format('{{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"status":%d,"broken":%d}}\\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
""")
    url = f"http://127.0.0.1:{balancer.port}{work.path}"
    command = [tool("wrk"), f"-t{bench.load_threads}", f"-c{work.connections}", f"-d{seconds}s", "-s", script, url]
    ran = run_on(bench.load_cpus, command, seconds + PATIENCE)
    results = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode != 0 or not results:
        raise Failure(f"wrk failed: {(ran.stderr or ran.stdout).strip()}")
    result = json.loads(results[-1])
    balancer.requests += result["requests"]
    return result


def measure_steady(bench, work, balancer, rate, seconds):
    """A SteadySample at this many requests per second, by h2load."""
    log = bench.directory / "h2load.tsv"
    log.unlink(missing_ok=True)
    wanted = round(rate * (seconds + SETTLE))
    command = [
        *(tool("h2load"), "--h1", "-t1", f"-c{work.connections}", f"-n{wanted}", f"--log-file={log}"),
        f"--rps={rate / work.connections:.6f}",
        # It looks every 10 ms which requests of a connection are due. Connections that were opened together would send
        # them together too, and the latency would be that of a burst.
        *("-r1", "--rate-period=1ms"),
        f"http://127.0.0.1:{balancer.port}{work.path}",
    ]
    ran = run_on(bench.load_cpus, command, seconds + SETTLE + PATIENCE)
    balancer.process.must_run()
    if ran.returncode != 0 or not log.exists():
        raise Failure(f"h2load failed: {(ran.stderr or ran.stdout).strip()}")
    # Microseconds: when it was sent, its status, when it was answered.
    rows = [tuple(int(cell) for cell in line.split("\t")[:3]) for line in log.read_text().splitlines()]
    good = sum(status == 200 for _, status, _ in rows)
    if good < wanted:
        raise Failure(f"{balancer.name} at {rate:.0f} requests per second: {wanted - good} of {wanted} requests failed")
    begin = min(sent for sent, _, _ in rows) + SETTLE * 1e6
    latencies = sorted(took for sent, _, took in rows if begin <= sent < begin + seconds * 1e6)
    if not latencies:
        raise Failure(f"{balancer.name}: a run of {seconds} s left nothing to count at {rate:.1f} requests per second")
    return SteadySample(
        rate=len(latencies) / seconds,
        p50=percentile(latencies, 0.5) / 1e3,
        p99=percentile(latencies, 0.99) / 1e3,
        p999=percentile(latencies, 0.999) / 1e3,
    )


def percentile(ordered, share):
    """The value that this share of all does not exceed."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def wrk_version():
    return " ".join(first_line([tool("wrk"), "-v"]).split()[:2])


def h2load_version():
    return first_line([tool("h2load"), "--version"])
