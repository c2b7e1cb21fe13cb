"""Reliable Server Pooling (RFC 5351-5356): servers register in a pool under a name, clients connect to the name, and a session
outlives its server.

    import asap

    with asap.connect("EchoPool") as session:
        print(session.request(b"hello"))

    with asap.register("EchoPool") as server:
        for message in server.messages():
            server.send(message.data, message.session)

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
    "register",
    "report_failure",
    "resolve",
    "set_log",
    "version",
    "watch",
]
