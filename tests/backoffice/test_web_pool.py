"""Check that the web process can't use up the database's connections, on a real web server."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import psycopg
import pytest
import requests

from backoffice.local import embedded
from backoffice.local.embedded import free_port
from backoffice.local.postgres import PostgresServer
from tests.harness.processes import ProcessFactory, database_url
from tests.harness.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)
SESSION = {"Cookie": "sessionid=abcdefghijklmnopqrstuvwxyz012345"}  # makes a page ask the database


@pytest.fixture
def port(processes: ProcessFactory) -> int:
    """Start a web server; the tests find it at this port."""
    port = free_port()
    argv = ("uvicorn", "backoffice.asgi:application", "--host", embedded.HOST, "--lifespan", "off")
    env = {
        "DATABASE_POOL_SIZE": "8",
        "DATABASE_LOCK_TIMEOUT_MS": "4000",
        "METRICS_OPEN": "on",  # so that an anonymous request makes it ask the database
    }
    processes.program("web", "-m", *argv, "--port", str(port), ready="running on", env=env)
    requests.get(f"http://{embedded.HOST}:{port}/metrics", timeout=60)
    return port


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[psycopg.Connection]:
    with postgres.connect(database_url().rpartition("/")[2]) as own:
        yield own


def get(port: int, path: str) -> int:
    url = f"http://{embedded.HOST}:{port}{path}"
    return requests.get(url, headers=SESSION, timeout=60, allow_redirects=False).status_code


def connections_of_the_web(database: psycopg.Connection) -> int:
    row = database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        " AND query NOT LIKE '%held by the test%'"
    ).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/admin/login/"])
def test_anonymous_requests__leave_few_connections(
    path: str, port: int, database: psycopg.Connection
) -> None:
    before = connections_of_the_web(database)  # with those of this process
    with ThreadPoolExecutor(60) as pool:
        answers = Counter(pool.map(lambda _: get(port, path), range(240)))
    assert set(answers) <= {200, 503}
    assert connections_of_the_web(database) <= before + 12


def test_page__that_gets_no_connection_says_503_soon(
    port: int, database: psycopg.Connection
) -> None:
    with database.transaction():
        database.execute("LOCK TABLE people_personsession IN ACCESS EXCLUSIVE MODE")
        started_at = monotonic()
        with ThreadPoolExecutor(40) as pool:
            answers = Counter(pool.map(lambda _: get(port, "/admin/"), range(40)))
        assert set(answers) == {503}  # of waiting for the lock, or for a connection
        assert monotonic() - started_at < 15
    assert get(port, "/admin/") == 302


def test_readers__who_leave_give_their_connections_back(
    port: int, database: psycopg.Connection
) -> None:
    head = f"GET /admin/ HTTP/1.1\r\nHost: {embedded.HOST}\r\nCookie: {SESSION['Cookie']}\r\n\r\n"
    with database.transaction():
        database.execute("LOCK TABLE people_personsession IN ACCESS EXCLUSIVE MODE")
        for _ in range(20):
            with socket.create_connection((embedded.HOST, port)) as reader:
                reader.sendall(head.encode())
    wait_for(lambda: get(port, "/admin/") == 302, timeout=20, what="the site works")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: get(port, "/admin/"), range(24))) == {302}


def test_web__is_back_soon_after_the_database(
    port: int, postgres: PostgresServer, processes: ProcessFactory
) -> None:
    from django.db import connections

    connections.close_all()
    postgres.stop()
    try:
        assert get(port, "/admin/") == 503
        assert get(port, "/metrics") == 503
    finally:
        postgres.start()
    wait_for(lambda: get(port, "/admin/") == 302, timeout=10, what="the site works")
