"""Sends numbered datagrams at a steady pace, until its stdin ends; then it says in JSON what it has sent.

A process of its own, and nothing of the project in it: PORT PAUSE TOKEN ADDRESS ...
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
    # Not connected: each packet finds its own way.
    mouths = [
        socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) for address in addresses
    ]
    failures = []
    count = 0
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        for stream, (mouth, address) in enumerate(zip(mouths, addresses, strict=True)):
            try:
                mouth.sendto(PAYLOAD.pack(token, stream, count), (address, port))
            except OSError as error:
                failures.append((stream, count, error.strerror))
        count += 1
        due = max(due + pause, time.monotonic())  # what was missed while others ran is not made up for
    json.dump({"sent": count, "failures": failures}, sys.stdout)


if __name__ == "__main__":
    main()
