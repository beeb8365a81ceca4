"""Check `DATABASE_URL`, without which nothing but `make run` and the suite starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from backoffice.databases import database_settings

ROOT = Path(__file__).resolve().parent.parent.parent


def manage(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_database_settings__of_a_server(scheme: str) -> None:
    settings = database_settings(f"{scheme}://eva:secret@db.example:5433/orders")
    assert settings["ENGINE"] == "backoffice.postgres"
    assert (settings["HOST"], settings["PORT"]) == ("db.example", 5433)
    assert (settings["USER"], settings["PASSWORD"]) == ("eva", "secret")
    assert settings["NAME"] == "orders"


def test_database_settings__of_a_socket() -> None:
    settings = database_settings("postgres:////run/postgresql/orders")
    assert (settings["HOST"], settings["NAME"]) == ("/run/postgresql", "orders")


def test_database_settings__of_a_primary_and_its_replicas() -> None:
    """Each host keeps its own port, and only the primary will do."""
    settings = database_settings("postgres://eva:a%40b@one,two:5433,three.example/orders")
    assert settings["HOST"] == "one,two,three.example"
    assert settings["PORT"] == "5432,5433,5432"
    assert (settings["USER"], settings["PASSWORD"], settings["NAME"]) == ("eva", "a@b", "orders")
    assert settings["OPTIONS"]["target_session_attrs"] == "read-write"
    reader = database_settings("postgres://one,two/orders?target_session_attrs=any")
    assert reader["OPTIONS"]["target_session_attrs"] == "any"
    single = database_settings("postgres://one/orders")
    assert "target_session_attrs" not in single["OPTIONS"]


@pytest.mark.parametrize("hosts", ["one:x,two", "one,", ",two:5432"])
def test_database_settings__refuses_a_malformed_list_of_servers(hosts: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL names several servers"):
        database_settings(f"postgres://eva:secret@{hosts}/orders")


@pytest.mark.parametrize("url", ["sqlite:///var/db.sqlite3", "mysql://localhost/x", "orders"])
def test_database_settings__refuses_any_other_database(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL must name a PostgreSQL database"):
        database_settings(url)


@pytest.mark.parametrize("words", [("migrate",), ("check",), ("send_orders", "orders.csv")])
def test_manage__without_a_database_says_in_one_sentence_what_to_set(words: tuple[str]) -> None:
    done = manage(*words, DATABASE_URL="")
    assert done.returncode == 1
    assert done.stderr.startswith("manage.py: DATABASE_URL is not set: set it to a PostgreSQL")
    assert done.stderr.count("\n") == 1


def test_manage__shows_the_traceback_on_request() -> None:
    done = manage("migrate", "--traceback", DATABASE_URL="")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
