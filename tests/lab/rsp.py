#!/usr/bin/env python3
"""The rsp_* calls of one of the two libraries, for scenarios: what no program of RSPLIB's or ours does by itself.

    rsp.py LIBRARY [LIBRARY OPTION...] register POOL ID POLICY [VALUES]...   POLICY as a number, VALUES weight,weight_dpf,load,degradation,load_dpf
    rsp.py LIBRARY [LIBRARY OPTION...] resolve POOL TIMES ITEMS             identifiers, a line for each request
    rsp.py LIBRARY [LIBRARY OPTION...] policies                             registers three elements of each policy
    rsp.py LIBRARY [LIBRARY OPTION...] choices                              resolves those, and judges what is chosen
    rsp.py LIBRARY [LIBRARY OPTION...] report POOL TIMES PAUSE              a session that reports its element unreachable so often, seconds between
    rsp.py LIBRARY [LIBRARY OPTION...] session POOL                         a number every 200 ms to an echo server; notifications

LIBRARY is librsplib.so.3 (Debian's) or libasap.so. Elements stay registered until SIGTERM. What happens is told with milliseconds.
"""

import ctypes
import signal
import socket
import sys
import time

SCTP = 132
STREAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
NOTIFICATION, COOKIE_ECHO = 1, 2
FAILOVER_TYPE, NECESSARY, COMPLETE = 2, 1, 2
UNREACHABLE = 1
PE_IDENTIFIER = 1001000
u32, size_t, ptr = ctypes.c_uint32, ctypes.c_size_t, ctypes.c_void_p


class LoadInfo(ctypes.Structure):
    _fields_ = [(n, u32) for n in ("policy", "weight", "weight_dpf", "load", "degradation", "load_dpf")]


class TagItem(ctypes.Structure):
    _fields_ = [("tag", ctypes.c_uint), ("data", ctypes.c_ulong)]


class AddrInfo(ctypes.Structure):
    pass


AddrInfo._fields_ = [
    ("family", ctypes.c_int), ("socktype", ctypes.c_int), ("protocol", ctypes.c_int), ("addrlen", size_t),
    ("addrs", size_t), ("addr", ptr), ("next", ctypes.POINTER(AddrInfo)), ("pe_id", u32),
]

begun = time.monotonic()


def say(*words):
    print(*words, flush=True)


def at():
    return f"{(time.monotonic() - begun) * 1000:.0f}"


class Library:
    """One of the two, started."""

    def __init__(self, name, options):
        self.it = ctypes.CDLL(name, use_errno=True)
        self.asap = "asap" in name
        info = ctypes.create_string_buffer(256)
        self.it.rsp_initinfo(info)
        for option in options:
            if not self.it.rsp_initarg(info, option.encode()):
                sys.exit(f"not the library's: {option}")
        if self.it.rsp_initialize(info) < 0:
            self.fail("rsp_initialize")

    def fail(self, what):
        error = ctypes.get_errno()
        sentence = ""
        if self.asap:
            self.it.asap_last_error.restype = ctypes.c_char_p
            sentence = (self.it.asap_last_error() or b"").decode()
        sys.exit(f"{what}: errno {error} {sentence}")

    def socket(self, kind=SEQPACKET):
        sd = self.it.rsp_socket(0, kind, SCTP)
        if sd < 0:
            self.fail("rsp_socket")
        return sd

    def register(self, pool, identifier, policy, values, interval=30000):
        sd = self.socket()
        load = LoadInfo(policy, *values)
        tags = (TagItem * 2)(TagItem(PE_IDENTIFIER, identifier), TagItem(0, 0))
        name = pool.encode()
        if self.it.rsp_register_tags(sd, name, size_t(len(name)), ctypes.byref(load), interval, 0, tags) < 0:
            self.fail(f"rsp_register of {identifier:#x} in {pool}")
        return sd

    def resolve(self, pool, items):
        """Identifiers, or the error's number."""
        found = ctypes.POINTER(AddrInfo)()
        name = pool.encode()
        count = self.it.rsp_getaddrinfo(name, size_t(len(name)), ctypes.byref(found), size_t(items), 0)
        if count < 0:
            return count
        elements, node = [], found
        while node:
            elements.append(node.contents.pe_id)
            node = node.contents.next
        self.it.rsp_freeaddrinfo(found)
        return elements

    def receive(self, sd, timeout):
        """(length, flags, bytes); length -1: nothing within the time."""
        buffer = ctypes.create_string_buffer(65536)
        rinfo = ctypes.create_string_buffer(64)
        flags = ctypes.c_int(0)
        self.it.rsp_recvmsg.restype = ctypes.c_ssize_t
        got = self.it.rsp_recvmsg(sd, buffer, size_t(65536), rinfo, ctypes.byref(flags), timeout)
        return got, flags.value, buffer.raw[: max(got, 0)]

    def send(self, sd, data):
        self.it.rsp_sendmsg.restype = ctypes.c_ssize_t
        return self.it.rsp_sendmsg(sd, data, size_t(len(data)), 0, u32(0), u32(0), ctypes.c_uint16(0), u32(0), u32(0), 1000)

    def element(self, sd):
        """The element a session is at."""
        name, length, identifier = ctypes.create_string_buffer(64), size_t(64), u32(0)
        self.it.rsp_getpeername(sd, name, ctypes.byref(length), ctypes.byref(identifier))
        return identifier.value


D = 0x01000000
HALF, FULL = 0x80000000, 0xFFFFFFFF


def values_of(**values):
    """A policy's values, in the order of LoadInfo, for each of three elements."""
    names = ("weight", "weight_dpf", "load", "degradation", "load_dpf")
    return [[values.get(name, (0, 0, 0))[n] for name in names] for n in range(3)]


def in_turn(*elements):
    """Each in its turn, whoever is first; a request sent twice may break the order, once or twice."""
    n = len(elements)
    return lambda chosen: sum(sorted(chosen[i : i + n]) != sorted(elements) for i in range(len(chosen) - n + 1)) <= 2 * n


def lottery(*winners):
    return lambda chosen: set(chosen) == set(winners)


def in_proportion(*parts):
    """Each gets its part, give or take two."""
    whole = sum(parts)
    return lambda chosen: all(abs(chosen.count(n) - len(chosen) * p / whole) <= 2 for n, p in enumerate(parts, 1))


def prefers(*order):
    """The more the earlier in the order."""
    return lambda chosen: [chosen.count(n) for n in order] == sorted((chosen.count(n) for n in order), reverse=True)


# Number, name, values of elements 1, 2, 3, and what is to be chosen, one element at a time.
POLICIES = [
    (0x00000001, "RoundRobin", values_of(), in_turn(1, 2, 3)),
    (0x00000002, "WeightedRoundRobin", values_of(weight=(1, 2, 3)), in_proportion(1, 2, 3)),
    (0x00000003, "Random", values_of(), lottery(1, 2, 3)),
    (0x00000004, "WeightedRandom", values_of(weight=(1, 2, 3)), lottery(1, 2, 3)),
    (0x00000005, "Priority", values_of(weight=(1, 2, 2)), in_turn(2, 3)),
    (0x40000001, "LeastUsed", values_of(load=(16, 16, 32)), in_turn(1, 2)),
    (0x40000002, "LeastUsedDegradation", values_of(degradation=(D, 2 * D, 4 * D)), in_proportion(4, 2, 1)),
    (0x40000003, "PriorityLeastUsed", values_of(load=(0, D, 0), degradation=(3 * D, D, 4 * D)), in_turn(2)),
    (0x40000004, "RandomizedLeastUsed", values_of(load=(0, HALF, FULL)), lottery(1, 2)),
    (0xB0001001, "RandomizedPriorityLeastUsed", values_of(load=(0, HALF, FULL), degradation=(D, D, D)), lottery(1, 2)),
    (0xB0001002, "RandomizedLeastUsedDegradation", values_of(load=(0, HALF, FULL), degradation=(1, 1, 1)), lottery(1, 2)),
    (0xB0001003, "PriorityLeastUsedDegradation", values_of(load=(0, D, 0), degradation=(3 * D, D, 4 * D)), prefers(2, 1, 3)),
    (0xB0001004, "RandomizedPriorityLeastUsedDegradation", values_of(load=(0, HALF, FULL), degradation=(1, 1, 1)), lottery(1, 2)),
    (0xB0002001, "WeightedRandomDPF", values_of(weight=(1, 2, 3)), lottery(1, 2, 3)),
    (0xB0002002, "LeastUsedDPF", values_of(load=(16, 16, 32)), in_turn(1, 2)),
    (0xB0002003, "LeastUsedDegradationDPF", values_of(degradation=(D, 2 * D, 4 * D)), in_proportion(4, 2, 1)),
]


def policies(library, _):
    for number, name, values, _ in POLICIES:
        for identifier, value in enumerate(values, 1):
            # Registered anew, what RSPLIB's registrar has counted of an element is forgotten: not while it is asked.
            library.register(f"Policy-{number:08x}", identifier, number, value, interval=300000)
    say(f"registered {3 * len(POLICIES)} after {at()} ms")
    signal.sigwait([signal.SIGTERM])
    library.it.rsp_cleanup()


def choices(library, _):
    good = 0
    for number, name, _, rule in POLICIES:
        chosen = [library.resolve(f"Policy-{number:08x}", 1) for _ in range(70)]
        unknown = [found for found in chosen if not isinstance(found, list) or len(found) != 1]
        if unknown:
            say(f"BAD {name}: {unknown[0]}")
            continue
        chosen = [found[0] for found in chosen]
        fits = rule(chosen)
        good += fits
        say(f"{'ok ' if fits else 'BAD'} {name}: {''.join(map(str, chosen))}")
    say(f"{good} of {len(POLICIES)} policies, {70 * len(POLICIES)} resolutions in {at()} ms")
    library.it.rsp_cleanup()
    sys.exit(good != len(POLICIES))


def register(library, words):
    elements = []
    while words:
        pool, identifier, policy = words[0], int(words[1], 0), int(words[2], 0)
        words = words[3:]
        values = [0] * 5
        if words and "," in words[0]:
            values = [int(value, 0) for value in words[0].split(",")]
            words = words[1:]
        elements.append(library.register(pool, identifier, policy, values))
    say(f"registered {len(elements)} after {at()} ms")
    signal.sigwait([signal.SIGTERM])
    library.it.rsp_cleanup()


def resolve(library, words):
    pool, times, items = words[0], int(words[1]), int(words[2])
    for _ in range(times):
        found = library.resolve(pool, items)
        say(*([f"{identifier:08x}" for identifier in found] if isinstance(found, list) else ["error", found]))
    say(f"done after {at()} ms")
    library.it.rsp_cleanup()


def report(library, words):
    pool, times, pause = words[0].encode(), int(words[1]), float(words[2])
    sd = library.socket()
    if library.it.rsp_connect(sd, pool, size_t(len(pool)), 0) < 0:
        library.fail("rsp_connect")
    for _ in range(times):
        say(f"reports {library.element(sd):08x}")
        library.it.rsp_forcefailover(sd, UNREACHABLE, 0)
        time.sleep(pause)
    found = library.resolve(words[0], 10)
    say("left", *([f"{identifier:08x}" for identifier in found] if isinstance(found, list) else ["error", found]))
    library.it.rsp_close(sd)
    library.it.rsp_cleanup()


def session(library, words):
    pool = words[0].encode()
    sd = library.socket()
    if library.it.rsp_connect(sd, pool, size_t(len(pool)), 0) < 0:
        library.fail("rsp_connect")
    say(f"connected {library.element(sd):08x} at {at()}")
    number, answered, last = 0, 0, 0
    while True:
        number += 1
        library.send(sd, str(number).encode())
        until = time.monotonic() + 0.2
        while (left := until - time.monotonic()) > 0:
            got, flags, data = library.receive(sd, int(left * 1000) + 1)
            if got < 0:
                continue
            if flags & NOTIFICATION:
                kind, state = int.from_bytes(data[:2], "little"), int.from_bytes(data[8:12], "little")
                if kind == FAILOVER_TYPE and state == NECESSARY:
                    say(f"necessary at {at()}, last answer {(time.monotonic() - last) * 1000:.0f} ms ago")
                    library.it.rsp_forcefailover(sd, 0, 0)
                    time.sleep(0.05)
                elif kind == FAILOVER_TYPE and state == COMPLETE:
                    say(f"complete at {at()} at {library.element(sd):08x}")
                    library.send(sd, str(number).encode())
                else:
                    say(f"notification {kind} {state} at {at()}")
            elif got > 0:
                answered, last = answered + 1, time.monotonic()
                if answered == 1 or answered % 10 == 0:
                    say(f"answered {answered} at {at()}")


def main():
    library, words = sys.argv[1], sys.argv[2:]
    options = []
    while words[0].startswith("-"):
        options.append(words.pop(0))
    commands = {f.__name__: f for f in (register, resolve, policies, choices, report, session)}
    if words[0] in ("register", "policies"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    commands[words[0]](Library(library, options), words[1:])


main()
