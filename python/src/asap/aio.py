"""Sessions and servers for asyncio.

The same calls as in :mod:`asap`, awaited; streams to pools (:func:`open_connection`), and servers of asyncio as elements (:func:`serve`). Receiving waits for the descriptor in the event loop; what asks a registrar or connects runs in
a thread. An object belongs to the event loop it was made in. A call that is cancelled has taken nothing.
"""

from __future__ import annotations

import asyncio
import errno
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from ssl import SSLContext
from types import TracebackType
from typing import Any, AsyncIterator, Awaitable, Callable, Generic, Optional, Protocol, TypeVar, Union

from . import _sockets, _streams
from ._events import End, Event, Failover, Message, Policy
from ._library import Deadline, Error, FailedOver, abandon, error
from ._sockets import Data
from ._streams import HasFileno


class _Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T")
C = TypeVar("C", bound=_Closes)
D = TypeVar("D", bound=_sockets.Descriptor)
A = TypeVar("A", bound="_Owner[Any]")

#: How often a call that waits for room looks again, while what nobody receives keeps the descriptor readable.
_GLANCE = 0.01


class _Owner(Generic[C]):
    """An object of :mod:`asap` in an event loop."""

    def __init__(self, sync: C) -> None:
        #: The same for programs that do not wait in the event loop.
        self.sync = sync

    async def close(self) -> None:
        """As the method of :mod:`asap`."""
        await asyncio.to_thread(self.sync.close)

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()


class _Descriptor(_Owner[D]):
    """A descriptor of the library, for which the loop waits."""

    def __init__(self, sync: D) -> None:
        super().__init__(sync)
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    async def close(self) -> None:
        """As :meth:`asap.Session.close`; calls that wait get ``EBADF``."""
        if not self._closed:
            # Who waits is to find it closed even before it is.
            self._closed = True
            self._wake()
            await super().close()

    async def _each(self, take: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
        """One after the other until it is closed."""
        while not self._closed:
            try:
                taken = await take()
            except Error:
                if self._closed:
                    return
                raise
            yield taken

    async def _until(self, attempt: Callable[[], T], timeout: Optional[float], glance: Optional[float] = None) -> T:
        """Tries until it does not give ``BlockingIOError``, whenever the descriptor is readable."""
        deadline = Deadline(timeout)
        while True:
            if self._closed:
                raise error(errno.EBADF, "it was closed")
            try:
                return attempt()
            except BlockingIOError as failure:
                rest = deadline.rest()
                if rest == 0:
                    if timeout:
                        raise error(errno.ETIMEDOUT, failure.strerror or "") from None
                    raise
            await self._readable(rest)
            if glance is not None:
                # What nobody receives keeps it readable.
                await asyncio.sleep(glance)

    async def _readable(self, timeout: Optional[float]) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._waiting:
            self._loop.add_reader(self.sync.fileno(), self._wake)
        self._waiting.add(future)
        try:
            await asyncio.wait({future}, timeout=timeout)
        finally:
            self._waiting.discard(future)
            future.cancel()
            if not self._waiting and not self._closed:
                self._loop.remove_reader(self.sync.fileno())

    def _wake(self) -> None:
        if self._waiting:
            self._loop.remove_reader(self.sync.fileno())
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting = set()


class _Talker(_Descriptor[D]):
    def __init__(self, sync: D) -> None:
        super().__init__(sync)
        self._writing: Optional[asyncio.Task[None]] = None

    async def _give(self, give: Callable[[], None], timeout: Optional[float]) -> None:
        """Has the library take something. What of it is not written at once is written by the loop, whatever its giver does."""
        talker: Any = self.sync
        await self._until(give, timeout, _GLANCE)
        if not self._writing and not self._closed and not talker.written():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        talker: Any = self.sync

        def write() -> None:
            if not talker.written():
                raise BlockingIOError(errno.EAGAIN, "not all is written")

        try:
            await self._until(write, None, _GLANCE)
        except Error:
            # It was closed.
            pass
        finally:
            self._writing = None

    async def receive(self, timeout: Optional[float] = None) -> Event:
        """As :meth:`asap.Session.receive`."""
        talker: Any = self.sync
        event: Event = await self._until(lambda: talker.receive(0), timeout)
        return event


class Session(_Talker[_sockets.Session]):
    """A session: of a user with a pool (:func:`connect`), or accepted by a :class:`Listener`. :class:`asap.Session`, awaited."""

    async def send(self, data: Data, timeout: Optional[float] = None, **how: Any) -> None:
        """As :meth:`asap.Session.send`, with the same keywords."""
        await self._give(lambda: self.sync.send(data, 0, **how), timeout)

    async def recv(self, timeout: Optional[float] = None) -> bytes:
        """As :meth:`asap.Session.recv`."""
        return await self._until(lambda: self.sync.recv(0), timeout)

    async def request(
        self, data: Data, is_answer: Optional[Callable[[bytes], bool]] = None, timeout: Optional[float] = None
    ) -> bytes:
        """As :meth:`asap.Session.request`."""
        deadline = Deadline(timeout)
        await self.send(data, deadline.rest())
        while True:
            try:
                answer = await self.recv(deadline.rest())
            except FailedOver:
                await self.send(data, deadline.rest())
                continue
            if not answer:
                raise error(errno.EPIPE, "the session has ended without an answer")
            if is_answer is None or is_answer(answer):
                return answer

    async def __aiter__(self) -> AsyncIterator[Event]:
        """What comes, up to the end of the session, or until it is closed."""
        async for event in self._each(self.receive):
            if isinstance(event, End):
                return
            yield event

    async def send_cookie(self, cookie: Data, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Session.send_cookie`."""
        await self._give(lambda: self.sync.send_cookie(cookie, 0), timeout)

    async def end(self, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Session.end`."""
        await self._give(lambda: self.sync.end(0), timeout)

    async def failover(self, report: bool = False, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Session.failover`."""
        await asyncio.to_thread(self.sync.failover, report, timeout)

    def on_failover(self, callback: Optional[Callable[[Failover], None]]) -> None:
        """As :meth:`asap.Session.on_failover`."""
        self.sync.on_failover(callback)


class _Element(_Descriptor[D]):
    async def register(self, policy: Union[Policy, str, None] = None, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Server.register`."""
        element: Any = self.sync
        await asyncio.to_thread(element.register, policy, timeout)

    async def report_load(self, load: float, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Server.report_load`."""
        element: Any = self.sync
        await asyncio.to_thread(element.report_load, load, timeout)

    async def deregister(self, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Server.deregister`."""
        element: Any = self.sync
        await asyncio.to_thread(element.deregister, timeout)


class Server(_Element[_sockets.Server], _Talker[_sockets.Server]):
    """An element of a pool that serves all its sessions by messages (:func:`register`). :class:`asap.Server`, awaited."""

    async def messages(self) -> AsyncIterator[Message]:
        """As :meth:`asap.Server.messages`."""
        async for event in self:
            if isinstance(event, Message):
                yield event

    async def __aiter__(self) -> AsyncIterator[Event]:
        """What comes, of all sessions, until it is closed."""
        async for event in self._each(self.receive):
            yield event

    async def send(self, data: Data, session: int, timeout: Optional[float] = None, **how: Any) -> None:
        """As :meth:`asap.Server.send`, with the same keywords."""
        await self._give(lambda: self.sync.send(data, session, 0, **how), timeout)

    async def send_cookie(self, cookie: Data, session: int, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Server.send_cookie`."""
        await self._give(lambda: self.sync.send_cookie(cookie, session, 0), timeout)

    async def end(self, session: int, timeout: Optional[float] = None) -> None:
        """As :meth:`asap.Server.end`."""
        await self._give(lambda: self.sync.end(session, 0), timeout)


class Listener(_Element[_sockets.Listener]):
    """An element of a pool whose sessions are accepted one by one (:func:`listen`). :class:`asap.Listener`, awaited."""

    async def accept(self, timeout: Optional[float] = None) -> Session:
        """As :meth:`asap.Listener.accept`."""
        return Session(await self._until(lambda: self.sync.accept(0), timeout))

    async def __aiter__(self) -> AsyncIterator[Session]:
        """Sessions, as they come, until it is closed."""
        async for session in self._each(self.accept):
            yield session


async def _made(make: Callable[[], C], wrap: Callable[[C], T]) -> T:
    task: Awaitable[C] = asyncio.get_running_loop().run_in_executor(None, make)
    made = asyncio.ensure_future(task)
    try:
        return wrap(await asyncio.shield(made))
    except asyncio.CancelledError:
        # The thread goes on; nobody wants what it makes.
        made.add_done_callback(abandon)
        raise


async def connect(pool: Union[str, bytes], **how: Any) -> Session:
    """Opens a session with a pool. Parameters and errors as :func:`asap.connect`."""
    return await _made(lambda: _sockets.connect(pool, **how), Session)


async def register(pool: Union[str, bytes], policy: Union[Policy, str] = Policy(), **how: Any) -> Server:
    """Starts a server as an element of a pool. Parameters and errors as :func:`asap.register`."""
    return await _made(lambda: _sockets.register(pool, policy, **how), Server)


async def listen(pool: Union[str, bytes], policy: Union[Policy, str] = Policy(), **how: Any) -> Listener:
    """Starts a server that accepts its sessions one by one. Parameters and errors as :func:`asap.listen`."""
    return await _made(lambda: _sockets.listen(pool, policy, **how), Listener)


async def open_connection(
    pool: Union[str, bytes],
    *,
    limit: int = 65536,
    ssl: Union[SSLContext, bool, None] = None,
    server_hostname: Optional[str] = None,
    **how: Any,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of bytes to a pool, as :func:`asyncio.open_connection` gives them: parameters and errors of that, and of :func:`asap.open`.

    Reading and writing raise ``ConnectionResetError`` when the element fails; opening another connection reaches another element.
    """
    stream = await _made(lambda: _streams.open(pool, **how), lambda made: made)
    try:
        return await asyncio.open_connection(sock=stream, limit=limit, ssl=ssl, server_hostname=server_hostname)
    except BaseException:
        stream.close()
        raise


class Serving(_Owner[_streams.Serving]):
    """A socket's place in a pool (:func:`serve`). :class:`asap.Serving`, awaited."""


async def serve(
    sock: Union[int, HasFileno],
    pool: Union[str, bytes],
    policy: Union[Policy, str, None] = None,
    *,
    health: Optional[Callable[[], bool]] = None,
    health_timeout: float = 5.0,
    **how: Any,
) -> Serving:
    """Makes a server of asyncio an element of a pool: ``await aio.serve(server.sockets[0], "EchoPool")``, where ``server`` is what
    :func:`asyncio.start_server` has given. Parameters and errors as :func:`asap.serve`.

    ``health`` and ``load`` are called in the event loop. Without ``health``, too, the loop is asked: while it is stuck for longer than
    ``health_timeout``, the element is in no pool.
    """
    loop = asyncio.get_running_loop()
    load: Optional[Callable[[], float]] = how.pop("load", None)

    def in_loop(question: Callable[[], T]) -> T:
        """Asked by the library's thread."""
        answer: Future[T] = Future()

        def ask() -> None:
            try:
                answer.set_result(question())
            except BaseException as failure:
                answer.set_exception(failure)

        loop.call_soon_threadsafe(ask)
        return answer.result(health_timeout)

    def well() -> bool:
        try:
            return not loop.is_closed() and in_loop(health or (lambda: True))
        except FutureTimeout:
            return False

    return await _made(
        lambda: _streams.serve(
            sock,
            pool,
            policy,
            health=well,
            load=load and (lambda: in_loop(load)),
            health_timeout=health_timeout,
            **how,
        ),
        Serving,
    )
