"""Serve the back office on a real web server, and read its stream of bells."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from backoffice.local import embedded
from backoffice.local.embedded import free_port
from tests.harness.processes import ChildProcess, ProcessFactory, web_argv
from tests.harness.waiting import wait_for


class Web:
    """A web process, as production runs it."""

    def __init__(self, processes: ProcessFactory, env: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://{embedded.HOST}:{self.port}"
        self.process: ChildProcess = processes.program(
            "web",
            *web_argv(self.port),
            ready="running on",
            env={"DATABASE_POOL_SIZE": "8"} | dict(env or {}),
        )
        requests.get(f"{self.url}/admin/login/", timeout=60)


def session_of(user: User) -> str:
    """Return the key of a new session in which this person is signed in."""
    client = Client()
    client.force_login(user)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


class Stream:
    """A page's stream of bells. `text()` is everything that has arrived so far."""

    def __init__(self, port: int, session_key: str) -> None:
        self.socket = socket.create_connection((embedded.HOST, port))
        self.socket.sendall(
            f"GET /admin/live/ HTTP/1.1\r\nHost: {embedded.HOST}\r\n"
            f"Cookie: {settings.SESSION_COOKIE_NAME}={session_key}\r\n\r\n".encode()
        )
        self.socket.setblocking(False)
        self._text = b""

    def text(self) -> str:
        try:
            while part := self.socket.recv(65536):
                self._text += part
        except BlockingIOError:
            pass
        return self._text.decode()

    def count(self, message: str) -> int:
        return self.text().count(f"event: {message}\n")

    def expect(self, message: str, *, times: int = 1, timeout: float = 10.0) -> None:
        wait_for(
            lambda: self.count(message) >= times, timeout=timeout, what=f"{times} times {message}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()
