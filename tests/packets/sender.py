"""Sends numbered datagrams at a steady pace until its stdin ends; then prints in JSON what it has sent.

usage: sender.py PORT PAUSE TOKEN ADDRESS ...
"""

import json
import select
import socket
import struct
import sys
import time

PAYLOAD = struct.Struct("=8sBQ")  # token, number of the stream, number of the packet


def main() -> None:
    port, pause, token = int(sys.argv[1]), float(sys.argv[2]), bytes.fromhex(sys.argv[3])
    addresses = sys.argv[4:]
    # A connected socket would keep its first route.
    sockets = [
        socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) for address in addresses
    ]
    failures = []
    count = 0
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        for stream, (sender, address) in enumerate(zip(sockets, addresses, strict=True)):
            try:
                sender.sendto(PAYLOAD.pack(token, stream, count), (address, port))
            except OSError as error:
                failures.append((stream, count, error.strerror))
        count += 1
        due = max(due + pause, time.monotonic())  # do not catch up after a delay
    json.dump({"sent": count, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main()
