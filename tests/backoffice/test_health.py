"""Check `/healthz`, which answers under any host name, and `/readyz`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.db.models import F
from django.test import AsyncClient, Client
from pytest_django.fixtures import Settings

from backoffice.duty_states import duty_states
from backoffice.local import embedded
from backoffice.local.embedded import free_port
from exchanges import clock
from exchanges.db.duty_runs import stamp_run, stamp_runs
from exchanges.models import AccountSync, DutyRun, ExchangeAccount
from tests.factories import ExchangeAccountFactory
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.redis import TestRedis
from tests.steps import no_database

FOREIGN = "10.0.0.7:8000"


@pytest.fixture
def elsewhere(settings: Settings) -> None:
    """Serve one host name only, over HTTPS."""
    settings.ALLOWED_HOSTS = ["backoffice.example"]
    settings.SECURE_SSL_REDIRECT = True


@pytest.mark.usefixtures("elsewhere")
def test_healthz__answers_under_any_host(client: Client) -> None:
    response = client.get("/healthz", headers={"host": FOREIGN})
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert client.post("/healthz", headers={"host": FOREIGN}).status_code == 405


@pytest.mark.usefixtures("elsewhere")
def test_healthz__answers_under_any_host_in_asgi() -> None:
    response = asyncio.run(AsyncClient().get("/healthz", headers={"host": FOREIGN}))
    assert (response.status_code, response.content) == (200, b"ok\n")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("path", ["/", "/admin/", "/readyz", "/healthz/", "/metrics"])
def test_other_pages__refuse_a_foreign_host(client: Client, path: str) -> None:
    assert client.get(path, headers={"host": FOREIGN}, secure=True).status_code == 400


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[ChildProcess, int]]:
    """Start uvicorn with production settings; no database and no Redis answer it."""
    port = free_port()
    env = os.environ | {
        "ALLOWED_HOSTS": "backoffice.example",
        "SECURE_SSL": "on",
        "SECRET_KEY": "made-up-0123456789-abcdefghijklmnopqrstuvwxyz-0123456789",
        "DATABASE_URL": "postgres://nobody:nothing@127.0.0.1:1/none",
    }
    argv = [sys.executable, "-m", "uvicorn", "backoffice.asgi:application"]
    argv += ["--host", embedded.HOST, "--port", str(port), "--lifespan", "off"]
    process = ChildProcess("web", argv, env=env, log=tmp_path / "web.log", ready="running on")
    process.start()
    yield process, port
    process.stop()


@pytest.mark.long
def test_compose__health_check_of_web_passes_whatever_allowed_hosts_says(
    web: tuple[ChildProcess, int],
) -> None:
    process, port = web
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    how, program, *arguments = services["web"]["healthcheck"]["test"]
    assert (how, program) == ("CMD", "python")
    arguments = [argument.replace("8000", str(port)) for argument in arguments]
    # A proxy that the environment names must not get between the check and its own container.
    env = os.environ | {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}

    def check() -> int:
        return subprocess.run(
            [sys.executable, *arguments], env=env, timeout=10, check=False, capture_output=True
        ).returncode

    assert check() == 0, process.output()
    process.stop()
    assert check() != 0


# -- /healthz ------------------------------------------------------------------------------------


def test_healthz__needs_no_database(client: Client) -> None:
    """Without the `db` fixture any query would fail the test."""
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_views__only_answer_questions(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


# -- /readyz -------------------------------------------------------------------------------------

TOKEN = {"Authorization": "Bearer right-token"}


@pytest.fixture
def running(demo: ExchangeAccount, redis_server: TestRedis, settings: Settings) -> ExchangeAccount:
    """Return an account whose workers have just left every heartbeat."""
    settings.METRICS_TOKEN = "right-token"
    AccountSync.objects.create(account=demo, last_synced_at=clock.now())
    for state in duty_states():
        stamp_runs(state.duty, [demo.pk]) if state.account else stamp_run(state.duty)
    return demo


def age_by(seconds: float, **which: Any) -> None:
    rows = DutyRun.objects.filter(**which)
    assert rows.update(ran_at=F("ran_at") - timedelta(seconds=seconds))


def missing(client: Client) -> dict[str, str]:
    """Return the parts that aren't ready, as the holder of the token reads them."""
    response = client.get("/readyz", headers=TOKEN)
    parts = {name: word for name, word in response.json()["checks"].items() if word != "ok"}
    assert response.status_code == (503 if parts else 200)
    return parts


def test_readyz__all_parts_answer(client: Client, running: ExchangeAccount) -> None:
    response = client.get("/readyz", headers=TOKEN)
    assert (response.status_code, response.json()["ready"]) == (200, True)
    checks = response.json()["checks"]
    assert set(checks.values()) == {"ok"}
    assert {"database", "broker", "limits", "exchange:demo"} < set(checks)
    assert "duty:orders.sweep_account of demo" in checks
    assert "duty:consume trading" in checks


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
def test_readyz__tells_strangers_only_whether_it_is_ready(
    client: Client, running: ExchangeAccount, headers: dict[str, str]
) -> None:
    assert client.get("/readyz", headers=headers).json() == {"ready": True}
    age_by(3600)
    response = client.get("/readyz", headers=headers)
    assert (response.status_code, response.json()) == (503, {"ready": False})


@pytest.mark.parametrize(("name", "value"), [("METRICS_OPEN", True), ("DEBUG", True)])
def test_readyz__tells_everybody_after_a_word(
    client: Client, running: ExchangeAccount, settings: Settings, name: str, value: bool
) -> None:
    settings.METRICS_TOKEN = ""
    assert "checks" not in client.get("/readyz").json()
    setattr(settings, name, value)
    assert "checks" in client.get("/readyz").json()


def test_readyz__names_a_broker_that_is_down(
    client: Client, running: ExchangeAccount, redis_server: TestRedis
) -> None:
    redis_server.stop()
    parts = missing(client)
    assert parts.keys() == {"broker", "limits"}
    assert all(words.startswith("does not answer") for words in parts.values())


def test_readyz__needs_no_broker_in_eager_mode(
    client: Client, demo: ExchangeAccount, eager: None
) -> None:
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("duty", "account", "words"),
    [
        ("orders.apply_halt_rules", None, "duty:orders.apply_halt_rules"),
        ("orders.apply_halt_rules", "demo", "duty:orders.apply_halt_rules of demo"),
        ("orders.sweep_account", "demo", "duty:orders.sweep_account of demo"),
        ("consume trading", None, "duty:consume trading"),
    ],
)
def test_readyz__names_a_duty_that_stands_still(
    client: Client, running: ExchangeAccount, duty: str, account: str | None, words: str
) -> None:
    age_by(59, duty=duty, account__name=account)
    assert missing(client) == {}
    age_by(2, duty=duty, account__name=account)
    assert missing(client) == {words: "last ran 61 s ago"}


def test_readyz__gives_a_seldom_duty_three_turns(client: Client, running: ExchangeAccount) -> None:
    age_by(3 * 3600 - 1, duty="exchanges.sync_all_instruments")
    assert missing(client) == {}
    age_by(2, duty="exchanges.sync_all_instruments")
    assert missing(client).keys() == {"duty:exchanges.sync_all_instruments"}


def test_readyz__a_new_installation_waits_for_its_frequent_duties_only(
    client: Client, running: ExchangeAccount
) -> None:
    DutyRun.objects.all().delete()
    never = missing(client)
    assert set(never.values()) == {"never ran"}
    assert "duty:orders.apply_halt_rules of demo" in never
    assert "duty:exchanges.sync_all_instruments" not in never


def test_readyz__names_an_exchange_that_was_not_read_lately(
    client: Client, running: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    ExchangeAccountFactory(name="disabled", is_enabled=False)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    AccountSync.objects.filter(account=running).update(last_synced_at=now - timedelta(seconds=125))
    assert missing(client) == {"exchange:demo": "last synced 125 s ago"}
    AccountSync.objects.filter(account=running).delete()
    assert missing(client) == {"exchange:demo": "never synced"}


def test_readyz__keeps_the_databases_own_words_to_itself(
    client: Client, running: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExchangeAccount.objects, "filter", no_database)
    assert missing(client) == {"database": "does not answer (OperationalError)"}
