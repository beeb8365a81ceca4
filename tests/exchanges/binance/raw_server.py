"""Serve HTTP from plain sockets, and misbehave to order as no real server could."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Received:
    """One request as it arrived. `signed_text` is the parameter text before `&signature=`."""

    method: str
    path: str
    parameter_text: str
    headers: Mapping[str, str]
    connection: int

    @property
    def parameters(self) -> dict[str, str]:
        pairs = parse_qsl(self.parameter_text, keep_blank_values=True)
        assert len(pairs) == len(dict(pairs)), "a parameter was sent twice"
        return dict(pairs)

    @property
    def signed_text(self) -> str:
        return self.parameter_text.rpartition("&signature=")[0]


Behavior = Callable[[socket.socket, "RawServer"], None]


def answer(
    status: int,
    body: Any = b"",
    *,
    headers: Mapping[str, str] | None = None,
    length: int | None = None,
) -> Behavior:
    """Answer with a status and a body, as JSON unless it is bytes or text. `length` may lie."""
    content = (
        body
        if isinstance(body, bytes)
        else body.encode()
        if isinstance(body, str)
        else json.dumps(body).encode()
    )
    kind = "application/json;charset=UTF-8" if not isinstance(body, bytes | str) else "text/html"
    lines = [
        f"HTTP/1.1 {status} Words",
        f"Content-Length: {len(content) if length is None else length}",
    ]
    lines += [
        f"{name}: {value}" for name, value in {"Content-Type": kind, **(headers or {})}.items()
    ]

    def behave(connection: socket.socket, server: RawServer) -> None:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        if length is not None and length > len(content):
            connection.close()

    return behave


def raw(content: bytes) -> Behavior:
    """Send these bytes and close."""

    def behave(connection: socket.socket, server: RawServer) -> None:
        connection.sendall(content)
        connection.close()

    return behave


def close(connection: socket.socket, server: RawServer) -> None:
    """Read the request, then close without a word (FIN)."""
    connection.close()


def reset(connection: socket.socket, server: RawServer) -> None:
    """Read the request, then reset the connection (RST)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def silence(connection: socket.socket, server: RawServer) -> None:
    """Read the request and never answer."""
    server.stopping.wait(30)


@dataclass
class RawServer:
    """Answer `/time` by its own clock, and the rest by `script`, repeating its last entry."""

    script: list[Behavior] = field(default_factory=list)
    clock_offset_ms: int = 0
    time_behavior: Behavior | None = None
    received: list[Received] = field(default_factory=list)
    time_requests: int = 0
    tls: ssl.SSLContext | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self._position = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"

    def then(self, *behaviors: Behavior) -> None:
        """Forget the script and follow this one."""
        self.script, self._position = list(behaviors), 0

    def stop(self) -> None:
        self.stopping.set()
        # shutdown wakes the thread that waits in accept; close alone would not
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)
            number = len(self._connections)
            threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # No makefile(): it would hold the socket open after `close`, and a reset would never leave.
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            while request := _read_request(connection, number):
                self._behavior(request)(connection, self)
        except OSError:
            return

    def _behavior(self, request: Received) -> Behavior:
        if request.path == "/api/v3/time":
            self.time_requests += 1
            now_ms = time.time_ns() // 1_000_000 + self.clock_offset_ms
            return self.time_behavior or answer(200, {"serverTime": now_ms})
        self.received.append(request)
        behavior = self.script[min(self._position, len(self.script) - 1)]
        self._position += 1
        return behavior


@contextmanager
def unanswering_port() -> Iterator[int]:
    """Yield a port whose queue is full, so that connecting neither succeeds nor fails."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for client in waiting:
                client.close()


def closed_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _read_request(connection: socket.socket, number: int) -> Received | None:
    """The next request; clients here never send two without waiting for an answer."""
    arrived = b""
    while b"\r\n\r\n" not in arrived:
        if not (piece := connection.recv(65536)):
            return None
        arrived += piece
    head, _, body = arrived.partition(b"\r\n\r\n")
    request_line, *header_lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in header_lines)
    }
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    method, target, _ = request_line.split()
    address = urlsplit(target)
    return Received(method, address.path, body.decode() or address.query, headers, number)
