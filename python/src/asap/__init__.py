"""Reliable Server Pooling (RFC 5351-5356): servers register in a pool under a name, clients connect to the name, and a session
outlives its server.

    import asap

    with asap.connect("EchoPool") as session:
        print(session.request(b"hello"))

    with asap.register("EchoPool") as server:
        for message in server.messages():
            server.send(message.data, message.session)

Programs with sockets need less: :func:`asap.open` gives one that leads to a pool, :func:`asap.serve` makes a listening one an element.
:mod:`asap.aio` has the same for asyncio. Failures are :class:`asap.Error`. What the calls do in detail says docs/python.md, and the
documentation of the C functions in ``asap.h``. Time-outs are seconds, as everywhere in Python.
"""

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
    SessionAdded,
    SessionRemoved,
    Shutdown,
    Undelivered,
)
from ._library import Error, FailedOver, NoSuchPool, cleanup, initialize, set_log, version
from ._registrar import Registrar
from ._sockets import (
    Listener,
    Server,
    Session,
    Watch,
    connect,
    listen,
    register,
    report_failure,
    resolve,
    watch,
)
from ._streams import Serving, peername, serve
from ._streams import open as open

# But open: who imports everything keeps the built-in one.
__all__ = [
    "Change",
    "Cookie",
    "Element",
    "End",
    "Error",
    "Event",
    "FailedOver",
    "Failover",
    "FailoverComplete",
    "FailoverNecessary",
    "Listener",
    "Message",
    "NoSuchPool",
    "Policy",
    "Registrar",
    "Server",
    "Serving",
    "Session",
    "SessionAdded",
    "SessionRemoved",
    "Shutdown",
    "Undelivered",
    "Watch",
    "cleanup",
    "connect",
    "initialize",
    "listen",
    "peername",
    "register",
    "report_failure",
    "resolve",
    "serve",
    "set_log",
    "version",
    "watch",
]
