"""Sessions, servers and watches: objects around the library's descriptors."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import sys
import threading
import warnings
import weakref
from types import TracebackType
from typing import Any, Callable, Iterator, Optional, TypeVar, Union

from . import _declarations as c
from ._events import (
    Change,
    Cookie,
    Element,
    End,
    Event,
    Failover,
    FailoverComplete,
    FailoverNecessary,
    Message,
    Policy,
    Undelivered,
    change_of,
    element_of,
    notification,
)
from ._library import (
    Deadline,
    Error,
    FailedOver,
    c_library,
    check,
    error,
    interruptible,
    milliseconds,
    pool_handle,
    start,
)

S = TypeVar("S", bound="Descriptor")
T = TypeVar("T")
Data = Union[bytes, bytearray, memoryview]

_EOR = int(socket.MSG_EOR)
#: How much one call takes from the library; longer messages are put together here.
_PIECE = 65536
#: The longest cookie, and the longest message that can come back.
_LONGEST = 16 * 1024 * 1024


class Descriptor:
    """What sessions, servers and watches have in common: a descriptor of the library.

    Every method may be called by every thread. Waiting calls release Python's lock. Close it with :meth:`close` or by ``with``.
    """

    _alive: weakref.WeakSet[Descriptor] = weakref.WeakSet()

    def __init__(self, number: int) -> None:
        self._number = number
        # Whoever receives does so alone until a message is complete.
        self._receiving = threading.Lock()
        self._alive.add(self)

    def fileno(self) -> int:
        """The descriptor, for ``select``, ``selectors`` and event loops: readable means that there may be something to receive (with a
        time-out of 0). It stays the same through failovers. Not for ``os.read`` or ``socket``. -1 when closed."""
        return self._number

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._number < 0

    def close(self) -> None:
        """Ends sessions in order, and the registration; waits up to 2 s for what is not written yet. Other threads that wait get
        ``EBADF``. In a forked child it closes the child's copy and tells nobody. May be called twice."""
        number, self._number = self._number, -1
        if number >= 0:
            c_library.rsp_close(number)

    def _each(self, take: Callable[[], T]) -> Iterator[T]:
        """One after the other until it is closed."""
        while not self.closed:
            try:
                taken = take()
            except Error:
                if self.closed:
                    return
                raise
            yield taken

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self)
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"descriptor {self._number}"
        return f"<asap.{type(self).__name__}, {state}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: a forked process inherits it, a spawned one makes its own"
        )

    def _option(self, option: int) -> int:
        value = ctypes.c_int()
        size = ctypes.c_uint32(ctypes.sizeof(value))
        check(c_library.rsp_getsockopt(self._number, c.SOL_RSERPOOL, option, ctypes.byref(value), ctypes.byref(size)))
        return value.value

    def _set_option(self, option: int, value: int) -> None:
        number = ctypes.c_int(value)
        check(
            c_library.rsp_setsockopt(self._number, c.SOL_RSERPOOL, option, ctypes.byref(number), ctypes.sizeof(number))
        )

    def _set_options(
        self, timeout: Optional[float], connect_timeout: Optional[float], idle_timeout: Optional[float] = None
    ) -> None:
        for option, seconds in (
            (c.RSP_CALL_TIMEOUT, timeout),
            (c.RSP_CONNECT_TIMEOUT, connect_timeout),
            (c.RSP_IDLE_TIMEOUT, idle_timeout),
        ):
            if seconds is not None:
                self._set_option(option, max(1, milliseconds(seconds)))

    def _name(self, function: Any) -> tuple[bytes, int]:
        handle = ctypes.create_string_buffer(1024)
        size = ctypes.c_size_t(len(handle))
        identifier = ctypes.c_uint32()
        check(function(self._number, handle, ctypes.byref(size), ctypes.byref(identifier)))
        return handle.raw[: size.value], identifier.value


def _forget_receivers() -> None:
    # Who held one of these is not in this process.
    for descriptor in Descriptor._alive:
        descriptor._receiving = threading.Lock()


os.register_at_fork(after_in_child=_forget_receivers)


class Talker(Descriptor):
    """A descriptor with sessions."""

    def receive(self, timeout: Optional[float] = None) -> Event:
        """What comes next: a :class:`Message`, a notification, a :class:`Cookie`, an :class:`Undelivered` message, or :class:`End`.

        :param timeout: seconds; 0: do not wait; ``None``: as long as it takes.
        :raises TimeoutError: nothing came in that time. :raises BlockingIOError: nothing is there now (time-out 0).
        :raises Error: ``EBADF`` (closed meanwhile), ``ECONNRESET`` (an accepted session is lost), ``ECOMM`` and what else
            ``rsp_recvmsg`` lists.
        """
        deadline = Deadline(timeout)
        rest = deadline.rest()
        if not self._receiving.acquire(timeout=-1 if rest is None else min(rest, threading.TIMEOUT_MAX)):
            raise error(
                errno.ETIMEDOUT if timeout else errno.EAGAIN,
                "another thread receives, and nothing has come for this one",
            )
        try:
            return self._take(deadline)
        finally:
            self._receiving.release()

    def _take(self, deadline: Deadline) -> Event:
        info, flags = c.rsp_sndrcvinfo(), ctypes.c_int()
        buffer = ctypes.create_string_buffer(_PIECE)

        def receive(wait: int) -> int:
            got: int = c_library.rsp_recvmsg(
                self._number, buffer, len(buffer), ctypes.byref(info), ctypes.byref(flags), wait
            )
            return got

        try:
            got = deadline.call(receive)
        except Error as failure:
            if failure.errno != errno.EMSGSIZE:
                raise
            # A cookie, or what came back, comes whole.
            buffer = ctypes.create_string_buffer(_LONGEST)
            got = deadline.call(receive)
        if flags.value & c.MSG_RSERPOOL_NOTIFICATION:
            return notification(c.rserpool_notification.from_buffer_copy(buffer.raw[:20]))
        data = ctypes.string_at(buffer, got)
        session, element = info.rinfo_session, info.rinfo_pe_id or None
        ppid, stream = socket.ntohl(info.rinfo_ppid), info.rinfo_stream
        if flags.value & c.MSG_RSERPOOL_COOKIE_ECHO:
            return Cookie(data, session)
        if flags.value & c.MSG_RSERPOOL_UNDELIVERED:
            return Undelivered(data, session, ppid, stream, element)
        complete = bool(flags.value & _EOR)
        if got == 0 and not complete:
            return End()
        pieces = [data]
        # The rest of a message is there already; of bytes without end there may be none.
        while not complete and got == len(buffer):
            try:
                got = Deadline(0).call(receive)
            except BlockingIOError:
                break
            if got == 0:
                break
            pieces.append(ctypes.string_at(buffer, got))
            complete = bool(flags.value & _EOR)
        return Message(b"".join(pieces), session, ppid, stream, element, complete)

    def _send(
        self,
        data: Data,
        session: int,
        timeout: Optional[float],
        ppid: int = 0,
        stream: int = 0,
        unordered: bool = False,
        ttl: Optional[float] = None,
        ends: int = 0,
    ) -> None:
        message = data if isinstance(data, bytes) else bytes(data)
        flags = ends | (c.RSP_UNORDERED if unordered else 0)
        lives = 0 if ttl is None else max(1, milliseconds(ttl))
        Deadline(timeout).call(
            lambda wait: int(
                c_library.rsp_sendmsg(
                    self._number, message, len(message), 0, session, socket.htonl(ppid), stream, lives, flags, wait
                )
            )
        )

    def written(self) -> bool:
        """Whether all that was sent is written. What was sent with a time-out of 0 may not be: what is left is written within later
        calls, and the descriptor is readable when one of them can go on. Also true of a session that has ended or failed."""
        asked = c.pollfd(self._number, select.POLLOUT, 0)
        return check(c_library.rsp_poll(ctypes.byref(asked), 1, 0)) > 0

    def _send_cookie(self, cookie: Data, session: int, timeout: Optional[float]) -> None:
        state = bytes(cookie)
        Deadline(timeout).call(
            lambda wait: int(c_library.rsp_send_cookie(self._number, state, len(state), session, wait))
        )


class Session(Talker):
    """A session: of a user with a pool (:func:`connect`), or one that a :class:`Listener` has accepted."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._callback: Any = None
        self._raised: Optional[BaseException] = None

    def _take(self, deadline: Deadline) -> Event:
        try:
            return super()._take(deadline)
        finally:
            self._raise()

    def send(
        self,
        data: Data,
        timeout: Optional[float] = None,
        *,
        ppid: int = 0,
        stream: int = 0,
        unordered: bool = False,
        ttl: Optional[float] = None,
    ) -> None:
        """Sends a message of up to 16 MiB. It may be lost with its element: only an answer proves that it was dealt with.

        :param timeout: seconds to wait for room; ``None``: as long as it takes.
        :param ppid: payload protocol identifier. :param stream: stream (SCTP). :param unordered: others may overtake it.
        :param ttl: seconds after which it need not be sent any more.
        :raises TimeoutError: there was no room. :raises BrokenPipeError: the element has failed (without ``auto_failover``), or the
            session has ended.
        """
        self._send(data, 0, timeout, ppid, stream, unordered, ttl)
        self._raise()

    def recv(self, timeout: Optional[float] = None) -> bytes:
        """The next message; ``b""`` at the end of the session.

        :raises FailedOver: the session goes on at another element: send again what had no answer, and call this again.
        :raises BrokenPipeError: the element has failed, and the session does not move on by itself: call :meth:`failover`.
        :raises Error: ``ECOMM``: a message sent earlier did not get there; told once. And as :meth:`receive`.

        Cookies and other notifications are passed over; who needs them calls :meth:`receive`.
        """
        deadline = Deadline(timeout)
        while True:
            event = self.receive(deadline.rest())
            if isinstance(event, Message):
                return event.data
            if isinstance(event, End):
                return b""
            if isinstance(event, FailoverComplete):
                raise FailedOver(
                    errno.ECONNRESET,
                    "the element has failed and the session goes on at another one: send again what had no answer",
                )
            if isinstance(event, FailoverNecessary) and not self.auto_failover:
                raise error(errno.EPIPE, "the element has failed; call failover() to go on at another one")
            if isinstance(event, Undelivered):
                size = len(event.data)
                raise error(
                    errno.ECOMM, f"a message sent earlier ({size} bytes) did not get there and will not be sent again"
                )

    def request(
        self, data: Data, is_answer: Optional[Callable[[bytes], bool]] = None, timeout: Optional[float] = None
    ) -> bytes:
        """Sends a request and waits for its answer; after each failover it sends it again.

        :param is_answer: whether a message is the answer. A request may be dealt with by two elements, so that two answers come, the
            second after this has returned: number requests, and look at the number here. Without it any message is the answer.
        :param timeout: seconds for all of it. :raises TimeoutError: no answer came.
        :raises BrokenPipeError: the session has ended.
        """
        deadline = Deadline(timeout)
        self.send(data, deadline.rest())
        while True:
            try:
                answer = self.recv(deadline.rest())
            except FailedOver:
                self.send(data, deadline.rest())
                continue
            if not answer:
                raise error(errno.EPIPE, "the session has ended without an answer")
            if is_answer is None or is_answer(answer):
                return answer

    def __iter__(self) -> Iterator[Event]:
        """What comes, up to the end of the session, or until it is closed."""
        for event in self._each(self.receive):
            if isinstance(event, End):
                return
            yield event

    def send_cookie(self, cookie: Data, timeout: Optional[float] = None) -> None:
        """Gives the user of an accepted session a state cookie of up to 65000 bytes: its next element gets it before anything else.
        Send it before the answer it belongs to. Raises ``EOPNOTSUPP`` where the user is a plain TCP client."""
        self._send_cookie(cookie, 0, timeout)

    def end(self, timeout: Optional[float] = None) -> None:
        """Ends the session in order: what was sent arrives. It can still receive."""
        self._send(b"", 0, timeout, ends=c.RSP_EOF)

    def abort(self) -> None:
        """Breaks the session off."""
        self._send(b"", 0, 0, ends=c.RSP_ABORT)

    def failover(self, report: bool = False, timeout: Optional[float] = None) -> None:
        """Moves a user's session on to another element, and brings it the cookie.

        :param report: the present element did not work: tell the registrar.
        :raises Error: the session has no element then; call it again. ``ENOENT`` (the pool is gone), ``EHOSTUNREACH`` (no registrar),
            ``ECONNREFUSED``, ``ETIMEDOUT``, ``EPIPE`` (given up at the deadline).
        """
        self._set_options(timeout, None)
        flags = c.FFF_UNREACHABLE if report else c.FFF_NONE
        interruptible(lambda: check(c_library.rsp_forcefailover(self._number, flags, 0)))
        self._raise()

    def on_failover(self, callback: Optional[Callable[[Failover], None]]) -> None:
        """Has a function called after each failover of a user's session, by the thread that is inside a call on it: the new element has the
        cookie by then, and nothing else. It may send. An exception of it comes out of that call."""
        if callback is None:
            function = c.rsp_failover_callback()
        else:
            chosen, me = callback, weakref.ref(self)

            def called(_sd: int, info: Any, _user: object) -> None:
                told = info.contents
                failover = Failover(
                    told.rfi_session, told.rfi_from or None, told.rfi_to, bool(told.rfi_has_cookie), told.rfi_gap / 1e6
                )
                try:
                    chosen(failover)
                except BaseException as raised:
                    session = me()
                    if session is not None:
                        session._raised = raised

            function = c.rsp_failover_callback(called)
        check(c_library.rsp_set_failover_callback(self._number, function, None))
        # The former one may be running in another thread; it goes when nobody needs it.
        self._callback = function

    def _raise(self) -> None:
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised

    @property
    def pool(self) -> bytes:
        """The pool of the user's session; of an accepted one, the pool that its user is in itself, if that is known."""
        return self._name(c_library.rsp_getpeername)[0]

    @property
    def element(self) -> Optional[int]:
        """The element the session is at now (accepted: that its user is itself)."""
        return self._name(c_library.rsp_getpeername)[1] or None

    @property
    def has_cookie(self) -> bool:
        """Whether the user's session holds a cookie."""
        return check(c_library.rsp_has_cookie(self._number)) == 1

    @property
    def auto_failover(self) -> bool:
        """Whether the session moves on by itself when its element fails."""
        return self._option(c.RSP_AUTO_FAILOVER) == 1

    @auto_failover.setter
    def auto_failover(self, value: bool) -> None:
        self._set_option(c.RSP_AUTO_FAILOVER, int(value))


def connect(
    pool: Union[str, bytes],
    *,
    timeout: Optional[float] = None,
    auto_failover: bool = True,
    failover_deadline: Optional[float] = None,
    connect_timeout: Optional[float] = None,
    max_age: float = 0,
) -> Session:
    """Opens a session with a pool: looks it up, and connects to the element that its policy selects, or to the next.

    :param pool: the pool handle.
    :param timeout: seconds this may take (10), and :meth:`Session.failover`.
    :param auto_failover: the session moves on by itself when its element fails; else :meth:`Session.failover` is yours to call.
    :param failover_deadline: seconds after which such a move is given up (30); 0: never.
    :param connect_timeout: seconds for one element before the next is tried (0.5).
    :param max_age: a registrar's answer of up to so many seconds ago will do.
    :raises NoSuchPool: nobody is registered in it now. :raises ConnectionRefusedError: no element accepts.
    :raises Error: ``EHOSTUNREACH`` (no registrar; the sentence names those tried), ``ETIMEDOUT`` and what else ``rsp_connect`` lists.
    """
    start()
    session = Session(check(c_library.rsp_socket(0, socket.SOCK_SEQPACKET, 0)))
    try:
        session._set_options(timeout, connect_timeout)
        session.auto_failover = auto_failover
        if failover_deadline is not None:
            session._set_option(c.RSP_FAILOVER_DEADLINE, milliseconds(failover_deadline))
        handle = pool_handle(pool)
        number, age = session.fileno(), milliseconds(max_age)
        interruptible(lambda: check(c_library.rsp_connect(number, handle, len(handle), age)))
    except BaseException:
        session.close()
        raise
    return session


class _Element(Descriptor):
    """A server's part: the registration."""

    _handle = b""
    _interval = 0
    _flags = 0

    def register(self, policy: Union[Policy, str, None] = None, timeout: Optional[float] = None) -> None:
        """Registers again: with another load or weight, or after :meth:`deregister`. The library renews a registration by itself.

        :raises Error: nothing has changed. ``EHOSTUNREACH`` (no registrar), ``ETIMEDOUT``, ``EPROTOTYPE`` (another policy than the pool's),
            ``ENOSPC`` and what else ``rsp_register`` lists.
        """
        if policy is not None:
            self._policy = Policy(policy) if isinstance(policy, str) else policy
        self._set_options(timeout, None)
        number, handle, info = self._number, self._handle, self._policy.as_loadinfo()
        tags = (c.TagItem * 2)(c.TagItem(c.RSP_TAG_PE_IDENTIFIER, self._wanted), c.TagItem(c.RSP_TAG_DONE, 0))
        interruptible(
            lambda: check(
                c_library.rsp_register_tags(number, handle, len(handle), info, self._interval, self._flags, tags)
            )
        )

    def report_load(self, load: float, timeout: Optional[float] = None) -> None:
        """Tells how much there is to do, 0.0 (idle) to 1.0 (full), for the policies that select by load."""
        self.register(Policy(**{**vars(self._policy), "load": load}), timeout)

    def deregister(self, timeout: Optional[float] = None) -> None:
        """Leaves the pool; sessions go on. For an end in order: deregister, wait until the sessions have ended, :meth:`close`."""
        self._set_options(timeout, None)
        number = self._number
        interruptible(lambda: check(c_library.rsp_deregister(number, 0)))

    @property
    def pool(self) -> bytes:
        """The pool it is registered in."""
        return self._name(c_library.rsp_getsockname)[0]

    @property
    def identifier(self) -> int:
        """The element's identifier in the pool."""
        return self._name(c_library.rsp_getsockname)[1]

    @property
    def policy(self) -> Policy:
        """The policy and the values that were registered last."""
        return self._policy

    def _open(
        self,
        pool: Union[str, bytes],
        policy: Union[Policy, str],
        address: Optional[tuple[str, int]],
        identifier: int,
        interval: Optional[float],
        timeout: Optional[float],
        data_only: bool,
    ) -> None:
        self._handle = pool_handle(pool)
        self._wanted = identifier
        self._interval = 0 if interval is None else max(1, milliseconds(interval))
        self._flags = c.REGF_DATAONLY if data_only else 0
        try:
            if address is not None:
                packed = _packed(address)
                check(c_library.rsp_bind(self._number, packed, 1))
            self.register(policy, timeout)
        except BaseException:
            self.close()
            raise


class Server(_Element, Talker):
    """An element of a pool that serves all its sessions by messages on one descriptor (:func:`register`)."""

    def messages(self) -> Iterator[Message]:
        """The messages that come, of all sessions, until it is closed; everything else is passed over."""
        return (event for event in self if isinstance(event, Message))

    def __iter__(self) -> Iterator[Event]:
        """What comes, of all sessions, until it is closed: messages, cookies, beginnings and ends of sessions."""
        return self._each(self.receive)

    def send(
        self,
        data: Data,
        session: int,
        timeout: Optional[float] = None,
        *,
        ppid: int = 0,
        stream: int = 0,
        unordered: bool = False,
        ttl: Optional[float] = None,
    ) -> None:
        """Sends a message on a session. As :meth:`Session.send`; raises ``ENOTCONN`` (no such session), ``BrokenPipeError`` (it has
        ended)."""
        self._send(data, session, timeout, ppid, stream, unordered, ttl)

    def send_cookie(self, cookie: Data, session: int, timeout: Optional[float] = None) -> None:
        """Gives the user of a session a state cookie of up to 65000 bytes. Send it before the answer it belongs to, and a server that
        is killed loses nothing: the next one gets it as a :class:`Cookie`. Raises ``EOPNOTSUPP`` where the user is a plain TCP client."""
        self._send_cookie(cookie, session, timeout)

    def end(self, session: int, timeout: Optional[float] = None) -> None:
        """Ends a session in order. :class:`SessionRemoved` says when its number is free again."""
        self._send(b"", session, timeout, ends=c.RSP_EOF)

    def abort(self, session: int) -> None:
        """Breaks a session off."""
        self._send(b"", session, 0, ends=c.RSP_ABORT)


class Listener(_Element):
    """An element of a pool whose sessions are accepted one by one (:func:`listen`)."""

    def accept(self, timeout: Optional[float] = None) -> Session:
        """The next session.

        :raises TimeoutError: none came in that time. :raises BlockingIOError: none is there now (time-out 0).
        :raises Error: ``EBADF`` (closed meanwhile), ``EMFILE`` and what else ``rsp_accept`` lists.
        """
        number = Deadline(timeout).call(lambda wait: int(c_library.rsp_accept(self._number, wait)))
        return Session(number)

    def __iter__(self) -> Iterator[Session]:
        """Sessions, as they come, until it is closed."""
        return self._each(self.accept)


def register(
    pool: Union[str, bytes],
    policy: Union[Policy, str] = Policy(),
    *,
    address: Optional[tuple[str, int]] = None,
    protocol: int = 0,
    identifier: int = 0,
    interval: Optional[float] = None,
    timeout: Optional[float] = None,
    idle_timeout: Optional[float] = None,
    data_only: bool = False,
) -> Server:
    """Starts a server as an element of a pool: messages of all sessions come by :meth:`Server.receive`.

    :param pool: the pool handle. :param policy: with this element's values; or a name.
    :param address: a numeric address of this host and a port (0: any) to listen at; default: all addresses, any port.
    :param protocol: ``socket.IPPROTO_TCP``, ``IPPROTO_SCTP``, ``IPPROTO_UDP``, or 0: what works best.
    :param identifier: the element's, 1 to 0xffffffff; 0: any. :param interval: seconds between renewals (30).
    :param timeout: seconds that this may take (10). :param idle_timeout: over UDP: how long a user may be silent (120).
    :param data_only: no cookies: its users are plain TCP clients.
    :raises Error: ``EHOSTUNREACH`` (no registrar; the sentence names those tried), ``EEXIST``, ``EPROTOTYPE``, ``EADDRINUSE`` and what else
        ``rsp_register`` and ``rsp_bind`` list.
    """
    start()
    server = Server(check(c_library.rsp_socket(0, socket.SOCK_SEQPACKET, protocol)))
    server._set_options(None, None, idle_timeout)
    server._open(pool, policy, address, identifier, interval, timeout, data_only)
    return server


def listen(
    pool: Union[str, bytes],
    policy: Union[Policy, str] = Policy(),
    *,
    address: Optional[tuple[str, int]] = None,
    protocol: int = 0,
    identifier: int = 0,
    interval: Optional[float] = None,
    timeout: Optional[float] = None,
    data_only: bool = False,
) -> Listener:
    """Starts a server as an element of a pool that accepts its sessions one by one, say with a thread for each. Parameters and
    errors as :func:`register`; not over UDP."""
    start()
    listener = Listener(check(c_library.rsp_socket(0, socket.SOCK_STREAM, protocol)))
    listener._open(pool, policy, address, identifier, interval, timeout, data_only)
    return listener


class Watch(Descriptor):
    """The changes of a pool (:func:`watch`)."""

    def next(self, timeout: Optional[float] = None) -> Change:
        """The next change. Raises ``TimeoutError``, or ``BlockingIOError`` with time-out 0, if there is none."""
        change, deadline = c.rsp_poolchange(), Deadline(timeout)
        told = deadline.call(
            lambda wait: int(c_library.rsp_watch_next(self._number, ctypes.byref(change), ctypes.sizeof(change), wait))
        )
        if told == 0:
            raise error(errno.ETIMEDOUT if timeout else errno.EAGAIN, "the pool has not changed in the time given")
        return change_of(change)

    def __iter__(self) -> Iterator[Change]:
        """Changes, as they come, until it is closed; first the elements that are there."""
        return self._each(self.next)


def watch(pool: Union[str, bytes]) -> Watch:
    """Watches a pool, which need not exist yet."""
    start()
    handle = pool_handle(pool)
    return Watch(check(c_library.rsp_watch(handle, len(handle))))


def resolve(pool: Union[str, bytes], *, items: int = 0, max_age: float = 0) -> list[Element]:
    """The elements of a pool in the order in which its policy wants them tried, for programs with sockets of their own.

    :param items: how many at most; 0: as many as the library asks for by itself.
    :param max_age: a registrar's answer of up to so many seconds ago will do.
    :raises NoSuchPool: nobody is registered in it now. :raises Error: ``EHOSTUNREACH`` (no registrar), ``ETIMEDOUT``.
    """
    start()
    handle = pool_handle(pool)

    def ask() -> list[Element]:
        first = ctypes.POINTER(c.rsp_addrinfo)()
        result = c_library.rsp_getaddrinfo(handle, len(handle), ctypes.byref(first), items, milliseconds(max_age))
        if result == c.REAI_FAMILY:
            return []
        if result == c.REAI_MEMORY:
            raise MemoryError("no memory for the elements")
        check(result)
        try:
            elements, entry = [], first
            while entry:
                elements.append(element_of(entry.contents))
                entry = entry.contents.ai_next
            return elements
        finally:
            c_library.rsp_freeaddrinfo(first)

    return interruptible(ask)


def report_failure(pool: Union[str, bytes], identifier: int) -> None:
    """Reports that an element could not be reached. The registrar looks at once whether it is still alive. Does not wait."""
    start()
    handle = pool_handle(pool)
    check(c_library.rsp_pe_failure(handle, len(handle), identifier))


def _packed(address: tuple[str, int]) -> bytes:
    host, port = address
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            raw = socket.inet_pton(family, host)
        except OSError:
            continue
        head = int(family).to_bytes(2, sys.byteorder)
        if family == socket.AF_INET:
            return head + port.to_bytes(2, "big") + raw + bytes(8)
        return head + port.to_bytes(2, "big") + bytes(4) + raw + bytes(4)
    raise ValueError(f"{host} is no numeric address")
