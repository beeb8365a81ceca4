"""Plant sentinels for key, secret, password, token and second factor, let everything go wrong, and
look for them everywhere: logs of every process in both forms, database, Redis, pages, metrics and
results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp

from backoffice.celery import app
from backoffice.local.embedded import free_port
from backoffice.people.factor_models import Authenticator
from backoffice.people.factors import new_recovery_codes
from backoffice.people.models import JournalEntry
from exchanges.models import Environment, ExchangeAccount
from tests.harness.processes import ChildProcess, ProcessFactory
from tests.harness.redis import TestRedis
from tests.harness.simulator import Simulator
from tests.scenarios.steps import (
    DELETE_ORDER,
    GET_ORDER,
    LIMIT_BUY,
    POST_ORDER,
    send,
    send_cancel,
    sweep_once,
)

KEY = "SENTINELkeySENTINELkeySENTINELkeySENTINELkeySENTINELkeySENTINELk"
SECRET = "SENTINELsecretSENTINELsecretSENTINELsecretSENTINELsecretSENTINEL"
WRONG_SECRET = "SENTINELwrongSENTINELwrongSENTINELwrongSENTINELwrongSENTINELwron"
PASSWORD = "SENTINELpasswordSENTINEL"
TOKEN = "SENTINELtokenSENTINELtoken"
FACTOR_KEY = "SENTINELfactorSENTINELfactorSENTINELfactorSENTINELfactor"
SIGNED = re.compile(r"signature[\"'=:\s]+[0-9A-Za-z%+/]{16,}", re.IGNORECASE)

FAULTS: tuple[dict[str, Any], ...] = (
    {"action": "reset_after"},
    {"action": "reset_before"},
    {
        "action": "respond",
        "status": 503,
        "body": {"code": -1007, "msg": "Timeout"},
        "execute": False,
    },
    {"action": "garbage", "kind": "html"},
    {"action": "garbage", "kind": "cut"},
    {"action": "never_answer"},
    {"action": "rate_limited", "retry_after": 1},
    # An exchange, or a proxy before it, that repeats the request.
    {
        "action": "respond",
        "status": 400,
        "body": {"code": -1022, "msg": f"signature=abcdef0123456789 of {KEY}"},
    },
    {
        "action": "respond",
        "status": 502,
        "body": f"<html>{KEY} timestamp=1&signature=0123456789abcdef</html>",
    },
)


@pytest.fixture
def accounts(
    account: ExchangeAccount, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Make `demo`, `wrong` (wrong secret), `away` (no server) and `bare` (no secret)."""
    simulator.control.add_key("main", KEY, SECRET)
    nobody = f"http://127.0.0.1:{free_port()}"
    for name, secret, url in (
        ("demo", SECRET, simulator.url),
        ("wrong", WRONG_SECRET, simulator.url),
        ("away", SECRET, nobody),
        ("bare", "", simulator.url),
    ):
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_API_KEY", KEY)
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_API_SECRET", secret)
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_REST_URL", url)
        monkeypatch.setenv(f"EXCHANGE_{name.upper()}_WS_URL", url.replace("http", "ws"))
        ExchangeAccount.objects.get_or_create(
            name=name, defaults={"environment": Environment.SIMULATOR}
        )
    return ["demo", "wrong", "away", "bare"]


@dataclass(frozen=True, slots=True)
class Factors:
    """The second factors of a person, in the form that only the person has."""

    app: Authenticator
    recovery_codes: list[str]

    @classmethod
    def of(cls, user: User) -> Factors:
        app: Authenticator = Authenticator.objects.create(user=user, name="Phone")
        return cls(app, new_recovery_codes(user))

    def code(self) -> str:
        return f"{totp(self.app.bin_key):06d}"

    def secrets(self) -> list[str]:
        seed = self.app.seed_text
        codes = [form for code in self.recovery_codes for form in (code, code.replace("-", ""))]
        return [seed, seed.replace(" ", ""), self.app.bin_key.hex(), *codes]


def crash(port: int, account: str, factors: Factors | None = None) -> Iterator[str]:
    """Sign in, ask for metrics, and return the answers of the web process."""
    base = f"http://127.0.0.1:{port}"
    with requests.Session() as person:
        form = person.get(f"{base}/admin/login/", timeout=20)
        yield form.text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form.text)
        assert token is not None
        fields = {"username": account, "password": PASSWORD, "csrfmiddlewaretoken": token[1]}
        yield person.post(f"{base}/admin/login/?next=/admin/", data=fields, timeout=20).text
        if factors is not None:
            door = f"{base}/admin/second-factor/?next=/admin/"
            wrong = f"{(int(factors.code()) + 1) % 10**6:06d}"
            for code in (wrong, factors.recovery_codes[0]):
                asked = person.get(door, timeout=20).text
                token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', asked)
                assert token is not None
                fields = {"code": code, "csrfmiddlewaretoken": token[1]}
                yield person.post(door, data=fields, timeout=20).text
        for header in (f"Bearer {TOKEN}", f"Bearer {TOKEN}x", "Bearer"):
            for path in ("/metrics", "/readyz"):
                headers = {"Authorization": header}
                yield person.get(base + path, headers=headers, timeout=20).text


@pytest.mark.long
@pytest.mark.parametrize("as_json", ["on", "off"])
def test_secrets__are_nowhere_after_everything_went_wrong(
    accounts: list[str],
    processes: ProcessFactory,
    simulator: Simulator,
    redis_server: TestRedis,
    fast_timing: None,
    admin_client: Client,
    settings: Any,
    as_json: str,
) -> None:
    env = {"LOG_LEVEL": "DEBUG", "LOG_JSON": as_json, "METRICS_TOKEN": TOKEN, "PLAIN_HTTP": "on"}
    env["SECOND_FACTOR_KEY"] = settings.SECOND_FACTOR_KEY = FACTOR_KEY
    factors = Factors.of(User.objects.create_superuser("boss", password=PASSWORD))
    port = free_port()
    worker = processes.worker(env=env)
    others = [
        processes.beat(env=env),
        processes.command("listen_user_stream", env=env, wait=False),
        processes.program(
            "web",
            *("-m", "uvicorn", "backoffice.asgi:application", "--port", str(port)),
            *("--lifespan", "off"),
            ready="running on",
            env=env,
        ),
    ]
    answers = [str(answer) for answer in go_wrong(accounts, simulator)]
    answers += crash(port, "nobody")
    answers += crash(port, "boss", factors)
    assert JournalEntry.objects.filter(verb="use_recovery_code").exists(), "the door opened"

    assert "place" in worker.output(), "the log is at its most talkative"
    assert "listen_user_stream" in others[1].argv
    places = {
        "answers": "\n".join(answers),
        "log": worker.output(),
        **{f"log of {process.name}": process.output() for process in others},
        **dict(tables()),
        **dict(redis_contents(redis_server)),
        **dict(pages(admin_client)),
    }
    assert len(places) > 30
    planted = factors.secrets()
    found = {name: secrets_in(text, planted) for name, text in places.items()}
    assert {name: hits for name, hits in found.items() if hits} == {}
    stop_and_look_again(worker)


def go_wrong(accounts: list[str], simulator: Simulator) -> Iterator[Any]:
    faults = simulator.control.faults
    send("warm-up").get(timeout=30)
    for number, fault in enumerate(FAULTS):
        faults.add(match=POST_ORDER, **fault)
        faults.add(match=GET_ORDER, **fault)
        yield send(f"i-{number}").get(timeout=30, propagate=False)
        sweep_once()
        if number % 3 == 0:
            faults.add(match=DELETE_ORDER, **fault)
            yield send_cancel("warm-up").get(timeout=30, propagate=False)
        faults.clear()
        ExchangeAccount.objects.filter(name="demo").update(trading_state="ACTIVE")
    yield send("not-valid", {**LIMIT_BUY, "api_secret": SECRET}).get(timeout=30, propagate=False)
    for name in accounts[1:]:
        yield send(f"of-{name}", account=name).get(timeout=30, propagate=False)
    simulator.control.revoke_key(KEY)
    yield send("revoked").get(timeout=30, propagate=False)
    for name in accounts:
        for task in (
            "orders.sync_open_orders",
            "exchanges.sync_balances",
            "exchanges.sync_instruments",
        ):
            app.send_task(task, args=(name,))
    sweep_once()


def tables() -> Iterator[tuple[str, str]]:
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            yield f"table {table}", "\n".join(str(row) for row in cursor.fetchall())


def redis_contents(server: TestRedis) -> Iterator[tuple[str, str]]:
    with server.client() as client:
        read: dict[str, Callable[[str], object]] = {
            "none": lambda key: None,  # it expired after it was listed
            "string": client.get,
            "hash": client.hgetall,
            "list": lambda key: client.lrange(key, 0, -1),
            "set": client.smembers,
            "zset": lambda key: client.zrange(key, 0, -1),
        }
        for name in map(str, client.scan_iter()):
            yield f"redis {name}", f"{name} {read[str(client.type(name))](name)}"


def pages(client: Client) -> Iterator[tuple[str, str]]:
    for path in ("/admin/", "/metrics", "/readyz", "/healthz"):
        yield path, client.get(path).content.decode()
    for model, model_admin in admin.site._registry.items():
        names = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        listing = reverse(f"{names}_changelist")
        yield listing, client.get(listing).content.decode()
        for row in model_admin.model._default_manager.all()[:12]:
            page = reverse(f"{names}_change", args=(row.pk,))
            yield page, client.get(page).content.decode()


def secrets_in(text: str, planted: Sequence[str] = ()) -> list[str]:
    """Return each hit with the text around it."""
    words = (re.compile(re.escape(word)) for word in planted)
    found = [
        match.start()
        for pattern in (re.compile("SENTINEL[a-z]"), SIGNED, *words)
        for match in pattern.finditer(text)
    ]
    return [text[max(0, place - 300) : place + 100] for place in found[:3]]


def stop_and_look_again(worker: ChildProcess) -> None:
    worker.stop()
    assert secrets_in(worker.output()) == []
