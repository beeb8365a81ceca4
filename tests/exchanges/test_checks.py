from __future__ import annotations

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection
from pytest_django.fixtures import Settings

from backoffice.local.embedded import RedisServer, free_port
from exchanges.checks import check_accounts, check_secret_key, check_timing, refuse_danger
from exchanges.limits import redis as shared
from exchanges.models import ExchangeAccount
from tests.harness.processes import ROOT, database_url

KEY = "SENTINEL-KEY-4f0a"
SECRET = "SENTINEL-SECRET-9c1d"


@pytest.fixture(autouse=True)
def durability(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let Redis look safe to the checks that are not about it."""
    told = {"durability": shared.Durability("noeviction", persists=True)}
    monkeypatch.setattr(shared, "redis_durability", lambda: told["durability"])
    return told


def configure(monkeypatch: pytest.MonkeyPatch, name: str, **variables: str) -> None:
    prefix = f"EXCHANGE_{name.upper().replace('-', '_')}_"
    for suffix, value in variables.items():
        monkeypatch.setenv(prefix + suffix, value)


def make(
    monkeypatch: pytest.MonkeyPatch,
    name: str = "bot-1",
    environment: str = "testnet",
    **variables: str,
) -> None:
    """An enabled account, its key in the environment; `variables` replaces some."""
    configure(monkeypatch, name, **{"API_KEY": KEY + name, "API_SECRET": SECRET, **variables})
    ExchangeAccount.objects.create(name=name, environment=environment)


def ids(found: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in found]


def found_accounts() -> list[CheckMessage]:
    return check_accounts(None, databases=["default"])


def test_checks__are_registered() -> None:
    assert {check_secret_key, check_timing, check_accounts} <= set(
        registry.get_checks(include_deployment_checks=True)
    )


def test_check_secret_key__an_empty_one_is_found(settings: Settings) -> None:
    assert check_secret_key(None) == []
    settings.SECRET_KEY = ""
    assert ids(check_secret_key(None)) == ["exchanges.E001"]


def test_check_timing__the_defaults_are_clean() -> None:
    assert check_timing(None) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"EXCHANGE_RECV_WINDOW_MS": 60_001}, "exchanges.E002"),
        ({"EXCHANGE_RECV_WINDOW_MS": 0}, "exchanges.E002"),
        ({"EXCHANGE_RECV_WINDOW_MS": 60_000}, "exchanges.W003"),
        ({"EXCHANGE_REQUEST_TIMEOUT_MS": 10_000}, "exchanges.W004"),
        ({"MAX_UNSYNCED_SECONDS": 60}, "exchanges.W005"),
        ({"PLACE_WITHIN_SECONDS": 0}, "exchanges.E006"),
    ],
)
def test_check_timing__finds_what_cannot_work(
    settings: Settings, changes: dict[str, Any], expected: str
) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    found = check_timing(None)
    assert ids(found) == [expected]
    assert found[0].hint


def test_check_accounts__asks_no_database_that_is_not_to_be_checked() -> None:
    # No `db` fixture: a query would fail.
    assert check_accounts(None) == []


def test_check_accounts__is_quiet_before_the_first_migration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError("no such table")

    monkeypatch.setattr(ExchangeAccount.objects, "filter", fail)
    assert found_accounts() == []


@pytest.mark.django_db
def test_check_accounts__a_complete_account_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch)
    make(
        monkeypatch,
        "bot-2",
        "simulator",
        REST_URL="http://127.0.0.1:9080",
        WS_URL="ws://127.0.0.1:9080/ws-api/v3",
    )
    make(monkeypatch, "bot-3", "live")
    assert found_accounts() == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("environment", "variables", "expected", "named"),
    [
        ("testnet", {"API_KEY": ""}, ["exchanges.W010"], "EXCHANGE_BOT_1_API_KEY"),
        ("testnet", {"API_SECRET": ""}, ["exchanges.W010"], "EXCHANGE_BOT_1_API_SECRET"),
        ("simulator", {}, ["exchanges.W010"], "EXCHANGE_BOT_1_REST_URL"),
        (
            "testnet",
            {"REST_URL": "https://api.binance.com"},
            ["exchanges.E011"],
            "EXCHANGE_BOT_1_REST_URL",
        ),
        (
            "testnet",
            {"REST_URL": "https://api-gcp.binance.com"},
            ["exchanges.E011"],
            "EXCHANGE_BOT_1_REST_URL",
        ),
        ("testnet", {"REST_URL": "https://demo-api.binance.com"}, [], ""),
        (
            "simulator",
            {"REST_URL": "http://127.0.0.1:9080", "WS_URL": "wss://ws-api.binance.com/ws-api/v3"},
            ["exchanges.E011"],
            "EXCHANGE_BOT_1_WS_URL",
        ),
    ],
)
def test_check_accounts__finds_what_is_missing_or_leads_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    variables: dict[str, str],
    expected: list[str],
    named: str,
) -> None:
    make(monkeypatch, "bot-1", environment, **variables)
    found = found_accounts()
    assert ids(found) == expected
    assert all(named in message.msg and message.hint for message in found)


@pytest.mark.django_db
def test_check_accounts__a_live_account_needs_a_real_installation(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DEBUG = True
    urls = {"REST_URL": "http://127.0.0.1:9080", "WS_URL": "ws://127.0.0.1:9080/ws-api/v3"}
    make(monkeypatch, "bot-1", "live", **urls)
    assert ids(found_accounts()) == [
        "exchanges.E012",
        "exchanges.E012",
        "exchanges.E013",
    ]


@pytest.mark.django_db
def test_check_accounts__a_disabled_account_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, "bot-1", API_KEY="")
    ExchangeAccount.objects.update(is_enabled=False)
    assert found_accounts() == []


@pytest.mark.django_db
def test_check_accounts__a_shared_key_is_found_and_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(monkeypatch, "bot-1", API_KEY=KEY)
    make(monkeypatch, "bot-2", API_KEY=KEY)
    (found,) = found_accounts()
    assert found.id == "exchanges.E015"
    assert "bot-1, bot-2" in found.msg
    assert KEY not in str(found)


@pytest.mark.django_db
def test_check_command__shows_findings_with_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    make(
        monkeypatch,
        "bot-1",
        API_SECRET="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    )
    err = StringIO()
    call_command("check", databases=["default"], stderr=err)
    assert "exchanges.W010" in err.getvalue()
    assert "EXCHANGE_BOT_1_API_SECRET" in err.getvalue()
    assert "AAAA" not in err.getvalue()


def test_check_command__looks_at_the_accounts_without_being_told_to(
    monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    make(monkeypatch, "bot-1", API_KEY="")
    err = StringIO()
    call_command("check", stderr=err)
    assert "exchanges.W010" in err.getvalue()


def test_check_command__goes_on_without_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail() -> None:
        raise OperationalError("no route to host db.example")

    monkeypatch.setattr(connection, "ensure_connection", fail)
    err = StringIO()
    call_command("check", stderr=err)
    assert "does not answer (OperationalError)" in err.getvalue()
    assert "db.example" not in err.getvalue()


# -- Redis ---------------------------------------------------------------------------------------

REAL_DURABILITY = shared.redis_durability


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("durability_is", "expected"),
    [
        (shared.Durability("allkeys-lru", persists=True), ["exchanges.W016"]),
        (shared.Durability("volatile-ttl", persists=False), ["exchanges.W016", "exchanges.W017"]),
        (shared.Durability("noeviction", persists=False), ["exchanges.W017"]),
        (shared.Durability(None, persists=None), []),
        (None, ["exchanges.W018"]),
    ],
)
def test_check_accounts__finds_a_redis_that_forgets(
    monkeypatch: pytest.MonkeyPatch,
    durability: dict[str, Any],
    durability_is: shared.Durability | None,
    expected: list[str],
) -> None:
    durability["durability"] = durability_is
    assert found_accounts() == []  # without an account nothing depends on it
    make(monkeypatch)
    found = found_accounts()
    assert ids(found) == expected
    assert all(message.hint for message in found)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--appendonly", "yes"), shared.Durability("noeviction", persists=True)),
        (("--save", "60 1"), shared.Durability("noeviction", persists=True)),
        (("--maxmemory-policy", "allkeys-lru"), shared.Durability("allkeys-lru", persists=False)),
        (("--rename-command", "CONFIG", ""), shared.Durability("noeviction", persists=None)),
    ],
)
def test_redis_durability__is_what_a_real_redis_tells(
    settings: Settings, tmp_path: Path, options: tuple[str, ...], expected: shared.Durability
) -> None:
    server = _Configured(tmp_path, options)
    settings.REDIS_URL = server.url
    assert REAL_DURABILITY() is None
    server.start()
    try:
        assert REAL_DURABILITY() == expected
    finally:
        server.stop()


class _Configured(RedisServer):
    """The suite's Redis keeps nothing and evicts nothing; the last of an option counts."""

    def __init__(self, directory: Path, options: tuple[str, ...]) -> None:
        super().__init__(directory, port=free_port(), keep_data=False)
        self._options = options

    def argv(self) -> list[str]:
        return [*super().argv(), *self._options]


@pytest.mark.django_db
def test_refuse_danger__starts_without_a_live_account(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.DEBUG = True
    make(monkeypatch)
    make(monkeypatch, "bot-2", API_KEY=KEY + "bot-1")
    refuse_danger()
    make(monkeypatch, "bot-3", environment="live")
    ExchangeAccount.objects.filter(name="bot-3").update(is_enabled=False)
    refuse_danger()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("variables", "debug", "code"),
    [
        ({}, True, "exchanges.E013"),
        ({"REST_URL": "https://testnet.binance.vision"}, False, "exchanges.E011"),
        ({"REST_URL": "http://10.0.0.7:8080"}, False, "exchanges.E012"),
        ({"API_KEY": KEY + "bot-1"}, False, "exchanges.E015"),
    ],
)
def test_refuse_danger__ends_the_process_for_a_live_account(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    variables: dict[str, str],
    debug: bool,
    code: str,
) -> None:
    settings.DEBUG = debug
    make(monkeypatch)
    make(monkeypatch, "bot-2", environment="live")
    configure(monkeypatch, "bot-2", **variables)
    with pytest.raises(SystemExit, match=code) as refused:
        refuse_danger()
    assert KEY not in str(refused.value)
    with pytest.raises(SystemExit, match=code):
        call_command("listen_user_stream")
    call_command("halt_trading", "--reason", "it must always work")


@pytest.mark.django_db
def test_refuse_danger__starts_without_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(ExchangeAccount.objects, "filter", away)
    refuse_danger()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "program",
    [
        ["-m", "celery", "-A", "backoffice", "beat"],
        ["-m", "celery", "-A", "backoffice", "worker", "--pool", "solo"],
        ["-m", "uvicorn", "backoffice.asgi:application", "--port", "1"],
        ["manage.py", "resume_trading", "--account", "bot-1", "--reason", "go"],
    ],
    ids=["beat", "worker", "web", "resume"],
)
def test_processes__refuse_to_start_dangerously(
    monkeypatch: pytest.MonkeyPatch, program: list[str], redis_url: str
) -> None:
    make(monkeypatch, environment="live")
    env = os.environ | {"DATABASE_URL": database_url(), "DEBUG": "on", "REDIS_URL": redis_url}
    done = subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env=env,
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Refusing to start." in done.stderr, done.stderr[-2000:]
    assert "E013: Account bot-1 is live and DEBUG is on" in done.stderr
