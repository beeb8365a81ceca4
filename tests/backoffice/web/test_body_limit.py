"""Refuse large bodies before anything reads or stores them, on a real web server."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from backoffice.local.embedded import HOST, free_port
from backoffice.web.body_limit import LIMIT_BYTES, limit_bodies
from tests.harness.processes import ChildProcess


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


@pytest.fixture(scope="module")
def port(spool: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start uvicorn as production does. No database answers it, and none is asked."""
    port = free_port()
    env = os.environ | {
        "SECRET_KEY": "made-up-0123456789-abcdefghijklmnopqrstuvwxyz-0123456789",
        "DATABASE_URL": "postgres://nobody:nothing@127.0.0.1:1/none",
        "TMPDIR": str(spool),
    }
    argv = [sys.executable, "-m", "uvicorn", "backoffice.asgi:application"]
    argv += ["--host", HOST, "--port", str(port), "--lifespan", "off"]
    log = tmp_path_factory.mktemp("log") / "web.log"
    process = ChildProcess("web", argv, env=env, log=log, ready="running on")
    process.start()
    yield port
    process.stop()


def send(port: int, head: str, *parts: bytes) -> bytes:
    """Send a request part by part until the server answers, and return the answer's beginning."""
    with socket.create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n")
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it has answered and closed the connection
                break
        return connection.recv(4096)


def head(path: str, *headers: str) -> str:
    return "\r\n".join([f"POST {path} HTTP/1.1", f"Host: {HOST}", *headers])


def chunk(size: int) -> bytes:
    return f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"


@pytest.mark.parametrize("path", ["/admin/login/", "/nothing", "/static/x"])
def test_web__refuses_a_long_body_by_its_length_alone(port: int, path: str) -> None:
    answer = send(port, head(path, "Content-Length: 300000000"))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_web__refuses_a_long_body_that_states_no_length(port: int, spool: Path) -> None:
    chunks = [chunk(100_000)] * 40
    answer = send(port, head("/admin/login/", "Transfer-Encoding: chunked"), *chunks)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sum(file.stat().st_size for file in spool.rglob("*") if file.is_file()) == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize(
    ("header", "body"), [("Content-Length: 1", b"x"), ("Transfer-Encoding: chunked", chunk(1))]
)
def test_web__takes_no_body_where_machines_ask(
    port: int, path: str, header: str, body: bytes
) -> None:
    assert send(port, head(path, header), body).startswith(b"HTTP/1.1 413 ")


def test_web__passes_what_a_form_sends(port: int) -> None:
    """Django itself answers: 405, because `/healthz` allows no POST, and 403 without a token."""
    assert send(port, head("/healthz", "Content-Length: 0")).startswith(b"HTTP/1.1 405 ")
    form = b"x" * 900_000
    answer = send(port, head("/admin/login/", f"Content-Length: {len(form)}"), form)
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(("size", "passes"), [(LIMIT_BYTES, True), (LIMIT_BYTES + 1, False)])
def test_limit_bodies__counts_what_arrives(size: int, passes: bool) -> None:
    """Also if the stated length is shorter."""
    half = size // 2
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x" * half, "more_body": True},
        {"type": "http.request", "body": b"x" * (size - half)},
    ]
    answers: list[Mapping[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        for _ in range(2):
            await receive()
        await send({"type": "http.response.start", "status": 200})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def answer(message: Mapping[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", b"1")]}
    asyncio.run(limit_bodies(application)(scope, receive, answer))
    assert answers[0]["status"] == (200 if passes else 413)
