"""What is received, and what pools are told: plain values."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import sys
from dataclasses import dataclass
from typing import Any, Optional, Union

from . import _declarations as c
from ._library import c_library, last_error

_FULL = 0xFFFFFFFF


@dataclass(frozen=True)
class Message:
    """User data."""

    data: bytes
    #: The session it came on; what a server answers to.
    session: int
    #: Payload protocol identifier.
    ppid: int = 0
    #: Stream (SCTP).
    stream: int = 0
    #: The element it came from (a user's session: the one it has; a server's: the one its user is itself), if it came from one.
    element: Optional[int] = None
    #: Whether a message ends here. Always, unless the other side is a plain TCP program: there it is bytes as they came.
    complete: bool = True


@dataclass(frozen=True)
class Cookie:
    """The state that a user brings from another element, before anything else of its session (RFC 5352 3.8)."""

    data: bytes
    session: int


@dataclass(frozen=True)
class Undelivered:
    """A message of our own that was not delivered and will not be sent again (RFC 5352 6.7)."""

    data: bytes
    session: int
    ppid: int = 0
    stream: int = 0
    #: The element that should have got it.
    element: Optional[int] = None


@dataclass(frozen=True)
class SessionAdded:
    """A server's session begins."""

    session: int


@dataclass(frozen=True)
class SessionRemoved:
    """A server's session has ended; its number will be used again."""

    session: int


@dataclass(frozen=True)
class FailoverNecessary:
    """The element of a user's session has failed."""

    session: int
    #: Whether there is a cookie for the next one.
    has_cookie: bool


@dataclass(frozen=True)
class FailoverComplete:
    """A user's session goes on at another element; what had no answer has to be sent again."""

    session: int
    has_cookie: bool


@dataclass(frozen=True)
class Shutdown:
    """The peer ends the session in order."""

    session: int


@dataclass(frozen=True)
class End:
    """Nothing comes any more."""


Event = Union[
    Message, Cookie, Undelivered, SessionAdded, SessionRemoved, FailoverNecessary, FailoverComplete, Shutdown, End
]


def notification(raw: Any) -> Event:
    """What a ``union rserpool_notification`` says."""
    kind = raw.rn_header.rn_type
    if kind == c.RSERPOOL_SESSION_CHANGE:
        change = raw.rn_session_change
        added = change.rsc_state == c.RSERPOOL_SESSION_ADD
        return SessionAdded(change.rsc_session) if added else SessionRemoved(change.rsc_session)
    if kind == c.RSERPOOL_FAILOVER:
        failover = raw.rn_failover
        complete = failover.rf_state == c.RSERPOOL_FAILOVER_COMPLETE
        state = FailoverComplete if complete else FailoverNecessary
        return state(failover.rf_session, bool(failover.rf_has_cookie))
    return Shutdown(raw.rn_shutdown_event.rse_session)


@dataclass(frozen=True)
class Failover:
    """A failover that has just succeeded."""

    session: int
    #: The element that failed, if there was one.
    left: Optional[int]
    #: Where the session goes on.
    now: int
    #: Whether it has brought a cookie there.
    has_cookie: bool
    #: Seconds without element.
    gap: float


def full_scale(load: float) -> int:
    """A load as the library has it. Raises ``ValueError`` for what is none."""
    if not 0.0 <= load <= 1.0:
        raise ValueError(f"a load goes from 0.0 to 1.0, {load} is none")
    return int(load * _FULL)


@dataclass(frozen=True)
class Policy:
    """How elements are selected (RFC 5356; docs/policies.md). All elements of a pool name the same policy, each with values of
    its own."""

    #: ``RoundRobin``, ``WeightedRoundRobin``, ``Random``, ``WeightedRandom``, ``Priority``, ``LeastUsed``, ``LeastUsedDegradation``,
    #: ``PriorityLeastUsed``, ``RandomizedLeastUsed``, or a private one of RSPLIB.
    name: str = "RoundRobin"
    #: Weight (0: no service, if others do any) or priority.
    weight: int = 1
    #: Load, 0.0 (idle) to 1.0 (full).
    load: float = 0.0
    #: What one more session adds to it.
    load_degradation: float = 0.0
    #: Delay penalty factor of the weight, for the private policies that have one.
    weight_dpf: int = 0
    #: The same of the load.
    load_dpf: int = 0

    def as_loadinfo(self) -> Any:
        """The same for the library. Raises ``ValueError`` for a name or value that no policy has."""
        number = c_library.rsp_getpolicybyname(self.name.encode())
        if number == 0:
            raise ValueError(last_error().strerror)
        for whole in (self.weight, self.weight_dpf, self.load_dpf):
            if not 0 <= whole <= _FULL:
                raise ValueError(f"a weight goes from 0 to 0xffffffff, {whole} is none")
        return c.rsp_loadinfo(
            number,
            self.weight,
            self.weight_dpf,
            full_scale(self.load),
            full_scale(self.load_degradation),
            self.load_dpf,
        )


def policy_of(info: Any) -> Policy:
    """What the library says of a policy."""
    name = c_library.rsp_getpolicybytype(info.rli_policy)
    return Policy(
        name.decode() if name else f"0x{info.rli_policy:08x}",
        info.rli_weight,
        info.rli_load / _FULL,
        info.rli_load_degradation / _FULL,
        info.rli_weight_dpf,
        info.rli_load_dpf,
    )


@dataclass(frozen=True)
class Element:
    """An element of a pool, for programs with sockets of their own."""

    identifier: int
    #: ``"tcp"``, ``"sctp"``, ``"udp"``, or the protocol's number.
    protocol: str
    #: Host and port, each as :func:`socket.create_connection` takes it.
    addresses: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Change:
    """A change of a watched pool."""

    #: ``"added"``, ``"updated"``, ``"removed"``; ``"up to date"``: all elements present at the start have been told.
    kind: str
    identifier: int
    policy: Optional[Policy] = None
    protocol: Optional[str] = None
    address: Optional[tuple[str, int]] = None


def protocol_name(number: int) -> str:
    """TCP and so on."""
    names = {socket.IPPROTO_TCP: "tcp", socket.IPPROTO_UDP: "udp", 132: "sctp"}
    return names.get(number, str(number))


def addresses(at: Optional[int], count: int) -> list[tuple[str, int]]:
    """So many socket addresses, packed one behind the other."""
    found = []
    for _ in range(count if at else 0):
        assert at is not None
        family = int.from_bytes(ctypes.string_at(at, 2), sys.byteorder)
        if family == socket.AF_INET:
            raw = ctypes.string_at(at, 16)
            found.append((str(ipaddress.IPv4Address(raw[4:8])), int.from_bytes(raw[2:4], "big")))
        elif family == socket.AF_INET6:
            raw = ctypes.string_at(at, 28)
            found.append((str(ipaddress.IPv6Address(raw[8:24])), int.from_bytes(raw[2:4], "big")))
        else:
            break
        at += len(raw)
    return found


def element_of(info: Any) -> Element:
    """An entry of a list of ``rsp_getaddrinfo``."""
    return Element(info.ai_pe_id, protocol_name(info.ai_protocol), tuple(addresses(info.ai_addr, info.ai_addrs)))


def change_of(change: Any) -> Change:
    """What ``rsp_watch_next`` has written."""
    kinds = {c.RSP_POOL_ADDED: "added", c.RSP_POOL_UPDATED: "updated", c.RSP_POOL_REMOVED: "removed"}
    kind = kinds.get(change.rpc_type, "up to date")
    if kind not in ("added", "updated"):
        return Change(kind, change.rpc_pe_id)
    at = addresses(ctypes.addressof(change.rpc_addr), 1)
    return Change(
        kind,
        change.rpc_pe_id,
        policy_of(change.rpc_loadinfo),
        protocol_name(change.rpc_protocol),
        at[0] if at else None,
    )
