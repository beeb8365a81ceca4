"""Give each answer of urllib3 one deadline, however slowly its bytes come.

The read timeout of a socket begins again with every byte. Here it limits the whole answer, from the
end of the request to the last byte of the body.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import Any

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from exchanges import clock


def timed_pool() -> urllib3.PoolManager:
    """Return a pool of connections whose read timeout limits a whole answer."""
    pool = urllib3.PoolManager(num_pools=2, cert_reqs="CERT_REQUIRED", ca_certs=certifi.where())
    pool.pool_classes_by_scheme = {"http": _Connections, "https": _SafeConnections}
    return pool


class _Reader(io.RawIOBase):
    """Read a socket until its timeout has passed since the beginning."""

    def __init__(self, sock: socket.socket) -> None:
        timeout = sock.gettimeout()
        self._socket = sock
        self._bytes = sock.makefile("rb", buffering=0)
        self._give_up_at = None if timeout is None else clock.monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._give_up_at is not None:
            left = self._give_up_at - clock.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _Source:
    """Replace the socket that `http.client` reads an answer from."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self._socket))


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(_Source(sock), *arguments, **options)  # type: ignore[arg-type]


class _Connection(HTTPConnection):
    response_class = _Answer


class _SafeConnection(HTTPSConnection):
    response_class = _Answer


class _Connections(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SafeConnections(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SafeConnection
