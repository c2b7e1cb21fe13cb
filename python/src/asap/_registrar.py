"""A registrar within the program."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Any, Iterable, Optional

from . import _declarations as c
from ._library import c_library, check, last_error


class Registrar:
    """A registrar that this program hosts, in a background thread: the same as the daemon. Several are allowed. The program's own
    sockets find it like any other, by :attr:`asap`. Ended by :meth:`stop` or ``with``; a forked child has no part in it.

    :param asap: where it serves servers and clients; port 0: any. :param enrp: where it serves other registrars.
    :param peers: addresses or DNS names of other registrars. :param announce: ``"auto"``, ``"off"``, or a group.
    :param profile: ``"lan"``, ``"wan"`` or ``"rfc"``.
    :param dialect: how others are taken to speak, ``"auto"``, ``"rfc"`` or ``"rsplib"``. :param admin: path of the administration socket, for ``asapctl``.
    :param identifier: among registrars; 0: random.
    :raises Error: ``EADDRINUSE``, ``EINVAL`` and what else ``asap_registrar_start`` lists.
    """

    def __init__(
        self,
        asap: str = "127.0.0.1:3863",
        enrp: str = "127.0.0.1:9901",
        *,
        peers: Iterable[str] = (),
        announce: Optional[str] = None,
        profile: Optional[str] = None,
        dialect: Optional[str] = None,
        admin: Optional[str] = None,
        identifier: int = 0,
    ) -> None:
        self._registrar: Any = None
        config = c.asap_registrar_config(arc_size=ctypes.sizeof(c.asap_registrar_config), arc_id=identifier)
        config.arc_asap, config.arc_enrp = asap.encode(), enrp.encode()
        config.arc_peers = ",".join(peers).encode() or None
        config.arc_announce, config.arc_profile = announce and announce.encode(), profile and profile.encode()
        config.arc_dialect = dialect and dialect.encode()
        config.arc_admin = admin and admin.encode()
        self._registrar = c_library.asap_registrar_start(config)
        if not self._registrar:
            raise last_error()

    @property
    def asap(self) -> str:
        """Where servers and clients find it, as :func:`initialize` and ``ASAP_REGISTRARS`` take it."""
        return self._address(c.ASAP_REGISTRAR_ASAP)

    @property
    def enrp(self) -> str:
        """Where other registrars find it, as ``peers`` take it."""
        return self._address(c.ASAP_REGISTRAR_ENRP)

    def _address(self, protocol: int) -> str:
        if not self._registrar:
            raise ValueError("the registrar has been stopped")
        text = ctypes.create_string_buffer(4096)
        check(c_library.asap_registrar_address(self._registrar, protocol, text, len(text)))
        return text.value.decode()

    def stop(self) -> None:
        """Ends it in order; its clients are told to go to another one. May be called twice."""
        registrar, self._registrar = self._registrar, None
        if registrar:
            c_library.asap_registrar_stop(registrar)

    def __enter__(self) -> Registrar:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    def __del__(self) -> None:
        self.stop()
