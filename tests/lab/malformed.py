#!/usr/bin/env python3
"""Sends a registrar what no program should, over associations of its own, and hears what is answered.

    malformed.py ADDRESS ASAP-PORT ENRP-PORT

First each of what ends RSPLIB's processes. Then each message of tests/vectors as it is, cut short, lengthened, with wrong lengths and types and
with the other protocol's payload identifier. After each group a question has to be answered. What is answered is told by type.
"""

import collections
import glob
import socket
import struct
import sys

SCTP, SNDRCV, ASAP, ENRP = 132, 1, 11, 12
ADDRESS, PORTS = sys.argv[1], {ASAP: int(sys.argv[2]), ENRP: int(sys.argv[3])}
NAMES = {ASAP: "asap", ENRP: "enrp"}


def hexed(text):
    return bytes.fromhex(text.replace(" ", ""))


def handle(name):
    return struct.pack(">HH", 9, 4 + len(name)) + name + bytes(-len(name) % 4)


def message(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">BBH", kind, 0, 4 + len(body)) + body


def element(identifier, policy, address=hexed("00010008 0a010102")):
    transport = struct.pack(">HHHH", 4, 8 + len(address), 5000, 1) + address
    body = struct.pack(">III", identifier, 0, 30000) + transport + policy
    return struct.pack(">HH", 10, 4 + len(body)) + body


ROUND_ROBIN, LOTTERY_OF_0 = hexed("00080008 00000001"), hexed("0008000c 00000004 00000000")
ENRP_IDS, LONG = hexed("00000999 00000000"), handle(b"x" * 33)
CHECKSUM = hexed("000f0006 ffff0000")

# Name, protocol, messages sent one after the other.
FATAL = [
    ("resolution of a handle of 33 bytes", ASAP, [message(5, LONG)]),
    ("registration with a handle of 33 bytes", ASAP, [message(1, LONG, element(0x7001, ROUND_ROBIN))]),
    ("update with a handle of 33 bytes", ENRP, [message(4, ENRP_IDS, bytes(4), LONG, element(0x7002, ROUND_ROBIN))]),
    ("address of an unknown type", ASAP, [message(1, handle(b"Odd"), element(0x7003, ROUND_ROBIN, hexed("80ff0008 61626364")))]),
    ("presence of identifier 0", ENRP, [message(1, ENRP_IDS, CHECKSUM, hexed("000b0018 00000000 00040010 26ad0000 00010008 0a010102"))]),
    ("lottery of weight 0, resolved", ASAP, [message(1, handle(b"Nought"), element(0x7004, LOTTERY_OF_0)), message(5, handle(b"Nought"))]),
    ("a policy without encoding in RSPLIB", ASAP, [message(1, handle(b"Dpf"), element(0x7005, hexed("00080014 b0002004 00000000 00000000 00000000")))]),
]


class Link:
    """An association; made anew when the other end has ended it."""

    def __init__(self, protocol):
        self.protocol, self.socket, self.made, self.sent = protocol, None, 0, 0
        self.answers = collections.Counter()

    def connected(self):
        if not self.socket:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, SCTP)
            self.socket.settimeout(60)
            self.socket.connect((ADDRESS, PORTS[self.protocol]))
            self.made += 1
        return self.socket

    def drop(self):
        self.socket.close()
        self.socket = None

    def send(self, data, ppid=None):
        """An association that was ended is one more answer to what was sent before."""
        information = struct.pack("=HHHxxIIIIIi", 0, 0, 0, socket.htonl(ppid or self.protocol), 0, 0, 0, 0, 0)
        self.sent += 1
        for _ in range(3):
            try:
                self.connected().sendmsg([data], [(SCTP, SNDRCV, information)])
                return
            except ConnectionError:
                self.answers["end"] += 1
                self.drop()
        sys.exit(f"{NAMES[self.protocol]}: no association holds")

    def ask(self):
        """Until a question is answered: what else came."""
        came = []
        for _ in range(3):
            if self.protocol == ASAP:
                self.send(message(5, handle(b"Nobody")))
            else:
                self.send(message(5, ENRP_IDS))
            try:
                while answer := self.socket.recv(65536):
                    if answer[0] == 6 and (self.protocol == ENRP or b"Nobody" in answer):
                        self.answers.update(f"type {kind}" for kind in came)
                        return came
                    came.append(answer[0])
            except ConnectionError:
                pass
            self.answers["end"] += 1
            self.drop()
        sys.exit(f"{NAMES[self.protocol]}: a question is not answered, after {came}")


def variations(data):
    """(bytes, whether under the other payload identifier)."""
    yield data, False
    yield data, True
    for length in range(0, len(data) - 1, 4):
        yield data[: length + 1 + length // 4 % 4], False
    yield data + b"\0" * 4, False
    yield data + hexed("80550008 61626364"), False
    yield data + b"x", False
    if len(data) >= 4:
        for wrong in (0, 3, len(data) - 4, len(data) + 4, 0xFFFF):
            yield data[:2] + struct.pack(">H", max(wrong, 0)) + data[4:], False
        for place in range(4, len(data) - 3, 4):
            yield data[:place] + b"\xff\xff\xff\xff" + data[place + 4 :], False


def main():
    links = {protocol: Link(protocol) for protocol in (ASAP, ENRP)}
    for name, protocol, messages in FATAL:
        link = links[protocol]
        for data in messages:
            link.send(data)
        print(f"fatal to RSPLIB: {name}: {['type %d' % kind for kind in link.ask()] or 'no answer'}", flush=True)
    for path in sorted(glob.glob("tests/vectors/*.txt")):
        for line in open(path, encoding="utf-8"):
            if line.startswith("#") or line.count(" | ") < 3:
                continue
            name, _, _, data = line.rstrip("\n").split(" | ")[:4]
            protocol = {"asap": ASAP, "enrp": ENRP}.get(name.split()[0])
            if protocol is None:
                continue
            link, other = links[protocol], ENRP if protocol == ASAP else ASAP
            for data, alien in variations(bytes.fromhex(data)):
                if data:
                    link.send(data, other if alien else protocol)
            link.ask()
    for kind in range(256):
        for protocol, link in links.items():
            link.send(bytes([kind, 0xFF, 0, 12]) + bytes(8))
    for protocol, link in links.items():
        link.ask()
        answers = ", ".join(f"{kind}: {count}" for kind, count in sorted(link.answers.items()))
        print(f"{NAMES[protocol]}: {link.sent} messages over {link.made} associations; answers {answers}", flush=True)


main()
