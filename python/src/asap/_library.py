"""The shared library: finding it, starting and ending it, its errors and its log."""

from __future__ import annotations

import atexit
import ctypes
import errno
import logging
import math
import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Callable, Iterable, Optional, TypeVar, Union

from . import _declarations as c

T = TypeVar("T")

# "As long as it takes", in the library's milliseconds.
FOREVER = 0x7FFFFFFF


class Error(OSError):
    """A call of the library has failed.

    ``errno`` is what the function's documentation in ``asap.h`` lists, ``strerror`` the sentence of ``asap_last_error()``: what
    failed, what was tried, what to do. It is also the exception that Python has for that ``errno``: ``except ConnectionResetError``,
    ``BlockingIOError``, ``TimeoutError`` and so on find it, as with sockets.
    """

    __module__ = "asap"


class NoSuchPool(Error, FileNotFoundError):
    """No element is registered in the pool now (``ENOENT``)."""

    __module__ = "asap"


class FailedOver(Error, ConnectionResetError):
    """The element has failed, and the session goes on at another one: send again what had no answer."""

    __module__ = "asap"


_classes: dict[type, type[Error]] = {OSError: Error, FileNotFoundError: NoSuchPool}


def error(number: int, sentence: str) -> Error:
    """The exception for an errno, derived from the one that Python has for it."""
    base = type(OSError(number, ""))
    if base not in _classes:
        _classes[base] = type(base.__name__, (Error, base), {"__module__": "asap", "__doc__": Error.__doc__})
    return _classes[base](number, sentence)


def last_error() -> Error:
    """The calling thread's last failure."""
    # Both are the thread's own, so nothing has come between.
    number = ctypes.get_errno()
    return error(number, c_library.asap_last_error().decode())


def _load() -> ctypes.CDLL:
    tried = []
    packaged = Path(__file__).with_name("libasap.so")
    chosen = os.environ.get("LIBASAP")
    # A library that was asked for by name is not replaced by another one.
    for name in [chosen] if chosen else [str(packaged), "libasap.so.0"]:
        try:
            library = ctypes.CDLL(name, use_errno=True)
        except OSError as failure:
            tried.append(str(failure))
            continue
        for function, (result, parameters) in c.FUNCTIONS.items():
            try:
                entry = getattr(library, function)
            except AttributeError:
                raise ImportError(f"{name} is no libasap of this package's version: it has no {function}") from None
            entry.restype = result
            entry.argtypes = parameters
        return library
    raise ImportError(
        "libasap is not here ("
        + "; ".join(tried)
        + "): install it, or name the file in the environment variable LIBASAP"
    )


c_library = _load()


def version() -> str:
    """The version of the library that was loaded."""
    text: bytes = c_library.asap_version()
    return text.decode()


def check(result: int) -> int:
    """The result, unless it says that the call has failed."""
    # Some results are unsigned.
    if result < 0 or result == 0xFFFFFFFF:
        raise last_error()
    return result


class Deadline:
    """When a call that waits is to give up; none: never."""

    def __init__(self, timeout: Optional[float]) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError("a time-out is in seconds, 0 or more; None stands for no end")
        self.timeout = timeout
        self._at = None if timeout is None else time.monotonic() + timeout

    def rest(self) -> Optional[float]:
        """Seconds left."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def milliseconds(self) -> int:
        """Time left as the library counts it."""
        rest = self.rest()
        return FOREVER if rest is None else min(math.ceil(rest * 1000), FOREVER - 1)

    def call(self, function: Callable[[int], int]) -> int:
        """Calls a function that waits so many milliseconds, again after each signal, whose handlers run in between."""
        while True:
            result = function(self.milliseconds())
            if result >= 0:
                return result
            failure = last_error()
            if failure.errno == errno.EINTR:
                continue
            if failure.errno == errno.EAGAIN and self.timeout:
                raise error(errno.ETIMEDOUT, failure.strerror or "")
            raise failure


def milliseconds(seconds: float) -> int:
    """A span of time as the library's structures and options have it."""
    return min(math.ceil(seconds * 1000), FOREVER)


def abandon(done: Any) -> None:
    """Closes what a call gives that nobody waits for any more (a future of either kind)."""
    if not done.cancelled() and not done.exception():
        done.result().close()


def interruptible(call: Callable[[], T], abandoned: Optional[Callable[[Future[T]], object]] = None) -> T:
    """Makes a call that waits on when a signal comes. In the main thread, where Python runs signal handlers, they run meanwhile, and
    so an exception of theirs (Ctrl-C) gets through; the call then goes on in its thread until its object is closed, or gives its result
    to ``abandoned``."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as failure:
            done.set_exception(failure)

    try:
        threading.Thread(target=run, name="asap call", daemon=True).start()
    except RuntimeError:
        # The interpreter is ending.
        return call()
    try:
        return done.result()
    except BaseException:
        if abandoned is not None:
            done.add_done_callback(abandoned)
        raise


def pool_handle(pool: Union[str, bytes]) -> bytes:
    """A pool handle as the library takes it."""
    return pool.encode() if isinstance(pool, str) else bytes(pool)


_settings: dict[str, Any] = {}


def initialize(
    registrars: Iterable[str] = (),
    *,
    announcements: Union[bool, str] = True,
    call_timeout: Optional[float] = None,
    response_timeout: Optional[float] = None,
) -> None:
    """Starts the library with settings of the program's own; without it the first use starts it with the default ones.

    :param registrars: ``"ADDRESS[:PORT]"`` each, numeric; before those of the environment variable ``ASAP_REGISTRARS``.
    :param announcements: whether registrars that announce themselves are found; or the multicast group, ``"ADDRESS:PORT"``.
    :param call_timeout: seconds that a call may block which needs a registrar or an element and has no time-out of its own (10).
    :param response_timeout: seconds until a request to a registrar is repeated.
    :raises Error: ``EINVAL`` (a bad address), ``EMFILE``, ``ENFILE``, ``EAGAIN`` (no thread).

    When the library is running already nothing changes. A forked child starts its own with the same settings when it needs it.
    """
    _settings.update(
        registrars=list(registrars),
        announcements=announcements,
        call_timeout=call_timeout,
        response_timeout=response_timeout,
    )
    start()


def start() -> None:
    """Sees to it that the library runs; in a forked child, one of its own."""
    info = c.rsp_info()
    try:
        c_library.rsp_initinfo(info)
        words = [f"-registrar={registrar}" for registrar in _settings.get("registrars", ())]
        announcements = _settings.get("announcements", True)
        if isinstance(announcements, str):
            words.append(f"-asapannounce={announcements}")
        elif not announcements:
            words.append("-asapannounce=off")
        for word in words:
            if not c_library.rsp_initarg(info, word.encode()):
                raise last_error()
        info.ri_registrar_request_timeout = milliseconds(_settings.get("call_timeout") or 0)
        info.ri_registrar_response_timeout = milliseconds(_settings.get("response_timeout") or 0)
        check(c_library.rsp_initialize(info))
    finally:
        c_library.rsp_freeinfo(info)


def cleanup() -> None:
    """Closes every session and server, ends the registrations, and stops the library's thread. Done by itself when Python ends."""
    c_library.rsp_cleanup()


_LEVELS = {1: logging.ERROR, 2: logging.WARNING, 3: logging.INFO, 4: logging.DEBUG, 5: logging.DEBUG}
_log: Optional[tuple[Any, int]] = None


def set_log(logger: Optional[logging.Logger], level: int = logging.INFO) -> None:
    """Gives the library's log to a logger, each part of the library to a child of it; ``None`` ends that.

    :param level: the lines wanted, as in :mod:`logging`; at ``DEBUG`` and below those of the protocols, too.
    """
    global _log
    if logger is None:
        _log = None
    else:
        to = logger

        def line(at: int, part: bytes, text: bytes, _user: object) -> None:
            to.getChild(part.decode().replace("::", ".")).log(_LEVELS[at], "%s", text.decode())

        wanted = max((ours for ours, theirs in _LEVELS.items() if theirs >= level), default=0)
        _log = (c.asap_log_callback(line), wanted)
    _switch_log()


def _switch_log() -> None:
    callback, level = _log or (c.asap_log_callback(), 0)
    check(c_library.asap_set_log(callback, level, None))


def _before_fork() -> None:
    # A line that another thread logs from within a section of the library's waits for Python's lock, which the forking thread
    # holds while it waits for that section to end.
    if _log is not None:
        c_library.asap_set_log(c.asap_log_callback(), 0, None)


def _after_fork() -> None:
    if _log is not None:
        _switch_log()


def _at_exit() -> None:
    c_library.asap_set_log(c.asap_log_callback(), 0, None)
    cleanup()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
atexit.register(_at_exit)
