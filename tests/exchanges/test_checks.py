from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection
from pytest_django.fixtures import Settings

from backoffice.embedded import RedisServer, free_port
from exchanges import checks, limits
from exchanges.checks import check_accounts, check_secret_key, check_timing
from exchanges.models import ExchangeAccount

KEY = "SENTINEL-KEY-4f0a"
SECRET = "SENTINEL-SECRET-9c1d"


@pytest.fixture(autouse=True)
def keeping(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """How Redis answers to the checks that are not about it: as it should."""
    told = {"keeping": limits.Keeping("noeviction", persists=True)}
    monkeypatch.setattr(limits, "redis_keeping", lambda: told["keeping"])
    return told


def configure(monkeypatch: pytest.MonkeyPatch, name: str, **variables: str) -> None:
    prefix = f"EXCHANGE_{name.upper().replace('-', '_')}_"
    for suffix, value in variables.items():
        monkeypatch.setenv(prefix + suffix, value)


def make(monkeypatch: pytest.MonkeyPatch, name: str = "bot-1", environment: str = "testnet", **variables: str) -> None:
    """An enabled account, its key in the environment; `variables` replaces some."""
    configure(monkeypatch, name, **{"API_KEY": KEY + name, "API_SECRET": SECRET, **variables})
    ExchangeAccount.objects.create(name=name, environment=environment)


def ids(found: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in found]


def found_accounts() -> list[CheckMessage]:
    return check_accounts(None, databases=["default"])


def on_sqlite() -> list[str]:
    return ["exchanges.E014"] if connection.vendor == "sqlite" else []


def test_checks__are_registered() -> None:
    assert {check_secret_key, check_timing, check_accounts} <= set(registry.get_checks(include_deployment_checks=True))


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
def test_check_timing__finds_what_cannot_work(settings: Settings, changes: dict[str, Any], expected: str) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    found = check_timing(None)
    assert ids(found) == [expected]
    assert found[0].hint


def test_check_accounts__asks_no_database_that_is_not_to_be_checked() -> None:
    # No `db` fixture: a query would fail.
    assert check_accounts(None) == []


def test_check_accounts__is_quiet_before_the_first_migration(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError("no such table")

    monkeypatch.setattr(ExchangeAccount.objects, "filter", fail)
    assert found_accounts() == []


@pytest.mark.django_db
def test_check_accounts__a_complete_account_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch)
    make(monkeypatch, "bot-2", "simulator", REST_URL="http://127.0.0.1:9080", WS_URL="ws://127.0.0.1:9080/ws-api/v3")
    make(monkeypatch, "bot-3", "live")
    assert ids(found_accounts()) == on_sqlite()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("environment", "variables", "expected", "named"),
    [
        ("testnet", {"API_KEY": ""}, ["exchanges.W010"], "EXCHANGE_BOT_1_API_KEY"),
        ("testnet", {"API_SECRET": ""}, ["exchanges.W010"], "EXCHANGE_BOT_1_API_SECRET"),
        ("simulator", {}, ["exchanges.W010"], "EXCHANGE_BOT_1_REST_URL"),
        ("testnet", {"REST_URL": "https://api.binance.com"}, ["exchanges.E011"], "EXCHANGE_BOT_1_REST_URL"),
        ("testnet", {"REST_URL": "https://api-gcp.binance.com"}, ["exchanges.E011"], "EXCHANGE_BOT_1_REST_URL"),
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
    monkeypatch: pytest.MonkeyPatch, environment: str, variables: dict[str, str], expected: list[str], named: str
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
    assert ids(found_accounts()) == ["exchanges.E012", "exchanges.E012", "exchanges.E013", *on_sqlite()]


@pytest.mark.django_db
def test_check_accounts__sqlite_is_not_for_live(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, "bot-1", "live")
    monkeypatch.setattr(checks, "connections", {"default": type("Connection", (), {"vendor": "sqlite"})()})
    assert ids(found_accounts()) == ["exchanges.E014"]


@pytest.mark.django_db
def test_check_accounts__a_disabled_account_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, "bot-1", API_KEY="")
    ExchangeAccount.objects.update(is_enabled=False)
    assert found_accounts() == []


@pytest.mark.django_db
def test_check_accounts__a_shared_key_is_found_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, "bot-1", API_KEY=KEY)
    make(monkeypatch, "bot-2", API_KEY=KEY)
    (found,) = found_accounts()
    assert found.id == "exchanges.E015"
    assert "bot-1, bot-2" in found.msg
    assert KEY not in str(found)


@pytest.mark.django_db
def test_check_command__shows_findings_with_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    make(monkeypatch, "bot-1", API_SECRET="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----")
    err = StringIO()
    call_command("check", databases=["default"], stderr=err)
    assert "exchanges.W010" in err.getvalue()
    assert "EXCHANGE_BOT_1_API_SECRET" in err.getvalue()
    assert "AAAA" not in err.getvalue()


def test_check_command__looks_at_the_accounts_without_being_told_to(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    make(monkeypatch, "bot-1", API_KEY="")
    err = StringIO()
    call_command("check", stderr=err)
    assert "exchanges.W010" in err.getvalue()


def test_check_command__goes_on_without_a_database(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fail() -> None:
        raise OperationalError("no route to host db.example")

    monkeypatch.setattr(connection, "ensure_connection", fail)
    err = StringIO()
    call_command("check", stderr=err)
    assert "its accounts are not looked at (OperationalError)" in err.getvalue()
    assert "db.example" not in err.getvalue()


# -- Redis ---------------------------------------------------------------------------------------------------------

REAL_KEEPING = limits.redis_keeping


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("keeping_is", "expected"),
    [
        (limits.Keeping("allkeys-lru", persists=True), ["exchanges.W016"]),
        (limits.Keeping("volatile-ttl", persists=False), ["exchanges.W016", "exchanges.W017"]),
        (limits.Keeping("noeviction", persists=False), ["exchanges.W017"]),
        (limits.Keeping(None, persists=None), []),
        (None, ["exchanges.W018"]),
    ],
)
def test_check_accounts__finds_a_redis_that_forgets(
    monkeypatch: pytest.MonkeyPatch,
    keeping: dict[str, Any],
    keeping_is: limits.Keeping | None,
    expected: list[str],
) -> None:
    keeping["keeping"] = keeping_is
    assert found_accounts() == []  # without an account nothing depends on it
    make(monkeypatch)
    found = found_accounts()
    assert ids(found) == expected
    assert all(message.hint for message in found)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--appendonly", "yes"), limits.Keeping("noeviction", persists=True)),
        (("--save", "60 1"), limits.Keeping("noeviction", persists=True)),
        (("--maxmemory-policy", "allkeys-lru"), limits.Keeping("allkeys-lru", persists=False)),
        (("--rename-command", "CONFIG", ""), limits.Keeping("noeviction", persists=None)),
    ],
)
def test_redis_keeping__is_what_a_real_redis_tells(
    settings: Settings, tmp_path: Path, options: tuple[str, ...], expected: limits.Keeping
) -> None:
    server = _Configured(tmp_path, options)
    settings.REDIS_URL = server.url
    assert REAL_KEEPING() is None
    server.start()
    try:
        assert REAL_KEEPING() == expected
    finally:
        server.stop()


class _Configured(RedisServer):
    """The suite's Redis keeps nothing and evicts nothing; the last of an option counts."""

    def __init__(self, directory: Path, options: tuple[str, ...]) -> None:
        super().__init__(directory, port=free_port(), keep_data=False)
        self._options = options

    def argv(self) -> list[str]:
        return [*super().argv(), *self._options]
