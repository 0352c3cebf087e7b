#!/usr/bin/env python3
"""Stands in for a syslog daemon: reads a socket, throws the lines away, and says at its end how many there were.

Run as a program of its own, with the path of the socket to make.
"""

import signal
import socket
import sys


def main(path):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    lines = 0
    room = bytearray(65_536)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        try:
            while True:
                log.recv_into(room)
                lines += 1
        finally:
            print(lines, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
