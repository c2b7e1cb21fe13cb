"""Pools for programs with sockets: streams to a pool, and listening sockets that are elements of one."""

from __future__ import annotations

import ctypes
import errno
import logging
import socket
from types import TracebackType
from typing import Any, Callable, Optional, Protocol, Union
from urllib.parse import quote_from_bytes

from . import _declarations as c
from ._events import Policy, addresses, full_scale
from ._library import (
    Error,
    abandon,
    c_library,
    check,
    interruptible,
    milliseconds,
    pool_handle,
    start,
)


class HasFileno(Protocol):
    """A socket, or what stands for one, as asyncio's servers and transports have it."""

    def fileno(self) -> int:
        """Its descriptor."""


def _number(of: Union[int, HasFileno]) -> int:
    return of if isinstance(of, int) else of.fileno()


def _name(pool: Union[str, bytes], **options: Union[str, float, None]) -> bytes:
    """The name (docs/adopting.md) of a pool, with these options beside those that it has. Times are in seconds."""
    name = pool_handle(pool)
    if not name.startswith(b"pool://"):
        name = b"pool://" + quote_from_bytes(name, safe="").encode()
    if b"\0" in name:
        raise ValueError("a name has no zero byte: write %00")
    for option, value in options.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{max(1, milliseconds(value))}ms"
            name += b"&" if b"?" in name else b"?"
            name += f"{option}={quote_from_bytes(text.encode(), safe='')}".encode()
    return name


def open(
    pool: Union[str, bytes],
    *,
    timeout: Optional[float] = None,
    connect_timeout: Optional[float] = None,
    failover: Optional[str] = None,
    failover_deadline: Optional[float] = None,
) -> socket.socket:
    """Opens a stream of bytes to a pool: an ordinary socket (AF_UNIX), for ``makefile``, ``select``, ``ssl`` and all else that takes one. Its
    server is a plain one (:func:`serve`, ``asapctl register``) or one of :func:`register`.

    When the element fails, ``recv`` raises ``ConnectionResetError`` once, ``send`` ``BrokenPipeError``; opening another stream reaches another
    element. A plain server that is killed may be read as an end, ``b""``, as with every TCP client.

    :param pool: the pool handle, or a name: ``pool://HANDLE?OPTION=VALUE&...``.
    :param timeout: seconds that this may take (10); the socket itself has the time-out that new sockets have, and ``settimeout``.
    :param connect_timeout: seconds for one element before the next is tried (0.5).
    :param failover: ``"reset"`` (default), or ``"resume"``: nothing is seen of a failover, the stream goes on at another element with what was
        not handed to the transport yet. What had been may be lost, or dealt with unanswered: for protocols that can tell.
    :param failover_deadline: with ``"resume"``: seconds after which moving on is given up (30).
    :raises NoSuchPool: nobody is registered in it now. :raises ConnectionRefusedError: no element accepts.
    :raises Error: ``EINVAL`` (the name), ``EHOSTUNREACH`` (no registrar; the sentence names those tried), ``ETIMEDOUT``, ``EMFILE`` and what
        else ``asap_open`` lists.

    The library relays it in a thread of its own. A child process that has it from this one uses it as long as this one lives.
    """
    name = _name(
        pool,
        timeout=timeout,
        connect_timeout=connect_timeout,
        failover=failover,
        failover_deadline=failover_deadline,
    )
    start()
    made: socket.socket = interruptible(lambda: socket.socket(fileno=check(c_library.asap_open(name, 0))), abandon)
    return made


def peername(stream: Union[int, HasFileno]) -> tuple[str, int]:
    """Host and port of the element at which a stream of :func:`open` is now.

    :raises Error: ``ENOTCONN`` (at none now), ``EBADF`` (no stream, or one that the parent process has opened).
    """
    address = ctypes.create_string_buffer(128)
    size = ctypes.c_uint32(len(address))
    check(c_library.asap_getpeername(_number(stream), ctypes.byref(address), ctypes.byref(size)))
    return addresses(ctypes.addressof(address), 1)[0]


#: What the library may still call, by identity: functions of sockets that are served, or were closed while they were.
_callbacks: dict[int, Any] = {}


class Serving:
    """A socket's place in a pool (:func:`serve`): ended by :meth:`close` or ``with``, and by closing the socket. It need not be kept."""

    def __init__(self, sock: Union[int, HasFileno], callback: Any) -> None:
        self._socket: Union[int, HasFileno, None] = sock
        self._descriptor = _number(sock)
        self._callback = callback

    def close(self) -> None:
        """Takes the element out of its pool; the socket stays open, and connections go on. May be called twice. In a forked child it
        does nothing.

        :raises Error: ``ETIMEDOUT``, ``EHOSTUNREACH`` (no registrar: the registration runs out by itself), ``EDEADLK`` (called by ``health``).
        """
        sock, self._socket = self._socket, None
        # A closed socket has left, and another one may have its number.
        if sock is None or _number(sock) != self._descriptor:
            return
        try:
            interruptible(lambda: check(c_library.asap_unserve(self._descriptor)))
        except Error as failure:
            if failure.errno == errno.EDEADLK:
                self._socket = sock
            # EINVAL: it was not served any more, or is by the parent process.
            if failure.errno != errno.EINVAL:
                raise
        else:
            _callbacks.pop(id(self._callback), None)

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


def serve(
    sock: Union[int, HasFileno],
    pool: Union[str, bytes],
    policy: Union[Policy, str, None] = None,
    *,
    health: Optional[Callable[[], bool]] = None,
    load: Optional[Callable[[], float]] = None,
    health_interval: Optional[float] = None,
    health_timeout: Optional[float] = None,
    identifier: int = 0,
    interval: Optional[float] = None,
    timeout: Optional[float] = None,
) -> Serving:
    """Makes a server an element of a pool: a socket that listens (TCP, or SCTP one-to-one), or a bound UDP socket. The program accepts and
    serves at it as before. The element leaves its pool when the socket is closed, with :meth:`Serving.close`, and when Python ends.

    :param sock: the socket, or its descriptor. :param pool: the pool handle, or a name: ``pool://HANDLE?OPTION=VALUE&...``.
    :param policy: with this element's values, or a name; default: that of the name, ``ASAP_POLICY``, or round robin.
    :param health: asked whether the program is well; while it says no, raises (which is logged), or does not answer, the element is in no pool.
        Called by a thread of the library's: let it look at what the program's own loop does.
    :param load: asked along, for the policies that select by load: how much there is to do, 0.0 (idle) to 1.0 (full).
    :param health_interval: seconds between two questions (1). :param health_timeout: seconds that an answer may take (5).
    :param identifier: the element's, 1 to 0xffffffff; 0: any. :param interval: seconds between renewals (30).
    :param timeout: seconds that this may take (10); 0: do not wait, and go on trying in the background.
    :raises Error: ``EINVAL`` (the name; not bound, or not listening; served in another pool), ``EHOSTUNREACH`` (no registrar; the sentence
        names those tried), ``EPROTOTYPE`` (another policy than the pool's) and what else ``asap_serve`` lists.

    After a fork the parent goes on being the element, whichever process accepts.
    """
    name = _name(pool, timeout=timeout or None)
    config = c.asap_serve_config(asc_size=ctypes.sizeof(c.asap_serve_config), asc_pe_id=identifier)
    if policy is not None:
        values = (Policy(policy) if isinstance(policy, str) else policy).as_loadinfo()
        config.asc_load = ctypes.pointer(values)
    for field, seconds in (
        ("asc_health_interval", health_interval),
        ("asc_health_timeout", health_timeout),
        ("asc_interval", interval),
    ):
        if seconds is not None:
            setattr(config, field, max(1, milliseconds(seconds)))
    callback = None
    if health is not None or load is not None:
        config.asc_health = callback = c.asap_health_callback(_asked(health, load))
    serving = Serving(sock, callback)
    descriptor, flags = _number(sock), c.ASAP_DONTWAIT if timeout == 0 else 0
    start()
    # Before the library has it.
    _callbacks[id(callback)] = callback
    try:
        interruptible(lambda: check(c_library.asap_serve(descriptor, name, config, flags)), lambda _: serving.close())
    except Error:
        _callbacks.pop(id(callback), None)
        raise
    return serving


def _asked(
    health: Optional[Callable[[], bool]], load: Optional[Callable[[], float]]
) -> Callable[[int, Any, object], int]:
    def asked(_descriptor: int, info: Any, _user: object) -> int:
        try:
            if health is not None and not health():
                return -1
            if load is not None:
                info.contents.rli_load = full_scale(load())
            return 0
        except BaseException:
            logging.getLogger("asap").exception("a server could not say whether it is well, and counts as not")
            return -1

    return asked
