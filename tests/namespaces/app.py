"""The webapp of a node: answers every request with its name, and tells when it began to listen and was first asked.

Run by itself, as `python3 -ISs app.py NAME PORT [PAUSE]`; it imports little, to start in no time.
"""

import os
import signal
import socket
import sys
import threading
import time


def answer(connection, name):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = b""
    with connection:
        while True:
            head, end, rest = waiting.partition(b"\r\n\r\n")
            if not end:
                try:
                    more = connection.recv(65536)
                except OSError:
                    return
                if not more:
                    return
                waiting += more
                continue
            waiting = rest
            if b"x-load:" in head.lower():
                asked(time.monotonic())
                pause = head.split(b" ", 2)[1].partition(b"?pause=")[2]
                if pause:
                    time.sleep(float(pause))
            body = b"" if head.startswith(b"HEAD") else name
            lines = b"HTTP/1.1 200 OK\r\nX-Server: %s\r\nContent-Length: %d\r\n\r\n" % (name, len(name))
            try:
                connection.sendall(lines + body)
            except OSError:
                return


def asked(now, seen=[]):
    if not seen:
        seen.append(now)
        os.write(1, b"app first request at %.6f\n" % now)


def main():
    name, port = sys.argv[1].encode(), int(sys.argv[2])
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    os.write(1, b"app listening at %.6f\n" % time.monotonic())
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection, name), daemon=True).start()


if __name__ == "__main__":
    main()
