# What the scripts beside this file share; sourced by them. Not executable, so that nobody takes it for a test.
# shellcheck shell=bash

# The name that the caller is known by.
script=${0##*/}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
directory=$(mktemp -d "${TMPDIR:-/tmp}/lb-$script.XXXXXX")
children=()

clean_up() {
    local status=$?
    if [ ${#children[@]} -gt 0 ]; then
        kill "${children[@]}" 2>/dev/null || true
        wait "${children[@]}" 2>/dev/null || true
    fi
    # What the processes said explains a failure better than the failed condition.
    if [ "$status" -ne 0 ]; then
        tail -n 20 "$directory"/*.log >&2 2>/dev/null || true
    fi
    rm -rf "$directory"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

skip() {
    echo "skipped: $*"
    exit 0
}

fail() {
    echo "FAIL $script: $*" >&2
    exit 1
}

# start NAME COMMAND...: in the background until the script ends; what it says is in $directory/NAME.log.
start() {
    local name=$1
    shift
    "$@" >"$directory/$name.log" 2>&1 &
    children+=($!)
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$what: not in time"
        sleep 0.1
    done
}

# free_ports N: N ports that nobody listens on, in one line.
free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
ports = [one.getsockname()[1] for one in sockets]
# Closed first: the caller may use them as soon as it has read the line.
for one in sockets:
    one.close()
print(*ports)
PYTHON
}

# serve_http NAME ADDRESS PORT: a small server that answers every GET, HEAD and POST with its name.
serve_http() {
    start "$1" python3 -c '
import http.server, sys

name, address, port = sys.argv[1:]

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_GET

http.server.ThreadingHTTPServer((address, int(port)), Answer).serve_forever()' "$@"
}

# The lb under test: $LB, or built from this tree. Its path is in $lb afterwards.
find_lb() {
    lb=${LB:-}
    if [ -z "$lb" ]; then
        # With a test beside it: the tests' own dependencies ask for more features of shared ones, without which cargo
        # would compile all that uses these once more.
        (cd "$root" && cargo test --quiet --no-run --test it)
        lb=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}")/debug/lb
    fi
    [ -x "$lb" ] || fail "$lb is no program that can be started"
}

# The same from a release build, for what measures the program.
find_release_lb() {
    if [ -z "${LB:-}" ]; then
        (cd "$root" && cargo build --locked --quiet --release --bin lb)
        LB=$(cd "$root" && realpath "${CARGO_TARGET_DIR:-target}")/release/lb
    fi
    find_lb
}

# csv_field STATS_PORT PROXY SERVER COLUMN: one field of the stats page's CSV, its columns found by name.
csv_field() {
    curl --silent --show-error --fail --max-time 5 "http://127.0.0.1:$1/;csv" | python3 -c '
import csv, sys
proxy, server, column = sys.argv[1:]
rows = csv.DictReader(sys.stdin.read().removeprefix("# ").splitlines())
print(next(row[column] for row in rows if (row["pxname"], row["svname"]) == (proxy, server)))' "$2" "$3" "$4"
}

# is_up STATS_PORT SERVER: whether checks have found the server of the pool `nodes` well.
is_up() {
    [[ $(csv_field "$1" nodes "$2" status) == UP* ]]
}
