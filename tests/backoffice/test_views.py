"""What machines ask over HTTP: alive, ready, and the figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from celery import current_app
from django.db import OperationalError
from django.test import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from exchanges import clock, limits, metrics, reachability
from exchanges.gateway import Gateway, get_gateway
from exchanges.models import Environment, ExchangeAccount, StreamState
from exchanges.services import halt_trading
from tests.factories import ExchangeAccountFactory, OrderFactory, ReconciliationBreakFactory
from tests.fakes import FakeExchange, FakeGateway
from tests.harness.redis import TestRedis

Labels = dict[str, str]


@pytest.fixture(autouse=True)
def _nothing_known_of_exchanges() -> Iterator[None]:
    reachability._probes.clear()
    yield
    reachability._probes.clear()


@pytest.fixture
def exchange(redis_server: TestRedis) -> Iterator[FakeExchange]:
    """With limits and breakers of its own: the server is empty."""
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def demo(db: None) -> ExchangeAccount:
    return ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)


def no_database(*_: object, **__: object) -> None:
    raise OperationalError('connection to "10.0.0.7" failed: password authentication failed for user "backoffice"')


# -- /healthz ------------------------------------------------------------------------------------------------------


def test_healthz__needs_no_database(client: Client) -> None:
    """Without the `db` fixture any query would fail the test."""
    response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_views__only_answer_questions(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405


# -- /readyz -------------------------------------------------------------------------------------------------------


def test_readyz__all_parts_answer(
    client: Client, demo: ExchangeAccount, exchange: FakeExchange, redis_server: TestRedis
) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"ready": True, "checks": {"database": "ok", "broker": "ok", "exchange:demo": "ok"}}


def test_readyz__names_a_broker_that_is_down(
    client: Client, demo: ExchangeAccount, exchange: FakeExchange, redis_server: TestRedis
) -> None:
    redis_server.stop()
    response = client.get("/readyz")
    assert response.status_code == 503
    checks = response.json()["checks"]
    assert checks.pop("broker").startswith("does not answer")
    assert checks == {"database": "ok", "exchange:demo": "ok"}


def test_readyz__needs_no_broker_in_eager_mode(client: Client, demo: ExchangeAccount, exchange: FakeExchange) -> None:
    current_app.conf.task_always_eager = True
    try:
        assert client.get("/readyz").status_code == 200
    finally:
        current_app.conf.task_always_eager = False


def test_readyz__names_the_exchange_that_does_not_answer(
    client: Client, demo: ExchangeAccount, exchange: FakeExchange, redis_server: TestRedis
) -> None:
    ExchangeAccountFactory(name="disabled", is_enabled=False)
    exchange.refuse_connection("fetch_time")
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {
        "database": "ok",
        "broker": "ok",
        "exchange:demo": "NotSent: no connection to the exchange",
    }


def test_readyz__names_a_missing_key(client: Client, demo: ExchangeAccount, redis_server: TestRedis) -> None:
    response = client.get("/readyz")
    assert response.status_code == 503
    assert "EXCHANGE_DEMO_REST_URL is not set" in response.json()["checks"]["exchange:demo"]


def test_readyz__keeps_the_databases_own_words_to_itself(
    client: Client, redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExchangeAccount.objects, "filter", no_database)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "does not answer (OperationalError)"


def test_exchange_troubles__a_good_answer_is_shared_for_a_while(
    demo: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    assert reachability.exchange_troubles([demo]) == {"demo": ""}
    exchange.refuse_connection("fetch_time")
    assert reachability.exchange_troubles([demo]) == {"demo": ""}
    now += reachability.MAX_AGE_SECONDS
    assert "no connection" in reachability.exchange_troubles([demo])["demo"]


def test_exchange_troubles__what_our_own_side_takes_to_prepare_is_not_the_exchanges(
    demo: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(account: ExchangeAccount) -> Gateway:
        clock.sleep(0.5)  # as an import of ccxt on a busy machine
        return get_gateway(account)

    monkeypatch.setattr(reachability, "PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr(reachability, "get_gateway", slow)
    assert reachability.exchange_troubles([demo]) == {"demo": ""}


def test_exchange_troubles__a_question_that_hangs_is_waited_for_once(
    demo: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reachability, "PATIENCE_SECONDS", 0.1)
    asked, answer = [], threading.Event()

    def hang(_: FakeGateway) -> int:
        asked.append(1)
        answer.wait(10)
        return 0

    monkeypatch.setattr(FakeGateway, "server_time_ms", hang)
    assert reachability.exchange_troubles([demo])["demo"].startswith("no answer for ")
    started_at = time.monotonic()
    for _ in range(20):
        assert reachability.exchange_troubles([demo])["demo"].startswith("no answer for ")
    assert time.monotonic() - started_at < 20 * 0.1
    answer.set()
    (probe,) = reachability._probes.values()
    assert probe.answered.wait(5)
    assert len(asked) == 1


# -- /metrics ------------------------------------------------------------------------------------------------------


def scrape(client: Client, **headers: str) -> dict[str, Metric]:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(response.content.decode())}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    (found,) = (s.value for s in families[f"backoffice_{name}"].samples if labels.items() <= s.labels.items())
    return found


def test_metrics__count_orders_by_status(client: Client, demo: ExchangeAccount) -> None:
    now = clock.now()
    for status in ("CREATED", "PENDING_NEW", "PENDING_NEW", "NEW", "PARTIALLY_FILLED", "FILLED", "FILLED"):
        OrderFactory(account=demo, status=status, created_at=now - timedelta(minutes=1))
    OrderFactory(account=demo, status="NEW", created_at=now - timedelta(days=3))
    OrderFactory(account=demo, status="FILLED", created_at=now - timedelta(days=3))
    families = scrape(client)
    open_now = {s.labels["status"]: s.value for s in families["backoffice_orders_not_closed"].samples}
    assert open_now == {"CREATED": 1, "PENDING_NEW": 2, "NEW": 2, "PARTIALLY_FILLED": 1}
    assert value(families, "orders_recorded_24h", account="demo", status="FILLED") == 2
    assert value(families, "orders_recorded_24h", account="demo", status="NEW") == 1
    assert value(families, "orders_recorded_24h", account="demo", status="REJECTED") == 0


def test_metrics__tell_unresolved_orders_and_the_age_of_the_oldest(client: Client, demo: ExchangeAccount) -> None:
    ExchangeAccountFactory(name="quiet")
    OrderFactory(account=demo, status="PENDING_NEW", created_at=clock.now() - timedelta(seconds=90))
    OrderFactory(account=demo, status="CREATED", created_at=clock.now() - timedelta(seconds=5))
    OrderFactory(account=demo, status="NEW", created_at=clock.now() - timedelta(hours=5))
    families = scrape(client)
    assert value(families, "unresolved_orders", account="demo") == 2
    assert value(families, "unresolved_oldest_age_seconds", account="demo") == pytest.approx(90, abs=30)
    assert value(families, "unresolved_orders", account="quiet") == 0
    assert value(families, "unresolved_oldest_age_seconds", account="quiet") == 0


def test_metrics__tell_breaks_states_and_the_last_sync(client: Client, demo: ExchangeAccount) -> None:
    ReconciliationBreakFactory(account=demo, kind="FILL_GAP")
    ReconciliationBreakFactory(account=demo, kind="OVERFILL", resolved_at=clock.now())
    ExchangeAccountFactory(name="synced", is_enabled=False, last_synced_at=clock.now() - timedelta(seconds=60))
    halt_trading(account=demo, reason="test", actor="test")
    families = scrape(client)
    assert value(families, "open_breaks", account="demo", kind="FILL_GAP") == 1
    assert value(families, "open_breaks", account="demo", kind="OVERFILL") == 0
    assert value(families, "account_trading_state", account="demo", state="HALTED") == 1
    assert value(families, "account_trading_state", account="demo", state="ACTIVE") == 0
    assert value(families, "account_enabled", account="synced") == 0
    assert value(families, "seconds_since_sync", account="synced") == pytest.approx(60, abs=30)
    assert value(families, "seconds_since_sync", account="demo") == float("inf")
    assert value(families, "trading_halted") == 0
    halt_trading(account=None, reason="test", actor="test")
    assert value(scrape(client), "trading_halted") == 1


def test_metrics__tell_how_the_private_streams_do(client: Client, demo: ExchangeAccount) -> None:
    now = clock.now()
    known = {"connected_since": now, "in_sync_since": now, "last_event_at": now - timedelta(seconds=60), "lag_ms": 250}
    StreamState.objects.create(account=demo, alive_at=now, **known)
    StreamState.objects.create(
        account=ExchangeAccountFactory(name="forgotten"), alive_at=now - timedelta(hours=1), in_sync_since=now
    )
    ExchangeAccountFactory(name="without")
    families = scrape(client)
    in_sync = {s.labels["account"]: s.value for s in families["backoffice_stream_in_sync"].samples}
    assert in_sync == {"demo": 1, "forgotten": 0, "without": 0}
    connected = {s.labels["account"]: s.value for s in families["backoffice_stream_connected"].samples}
    assert connected == {"demo": 1, "forgotten": 0, "without": 0}
    assert [s.value for s in families["backoffice_stream_lag_seconds"].samples] == [0.25]
    assert value(families, "stream_seconds_since_event", account="demo") == pytest.approx(60, abs=30)


def test_metrics__tell_which_breakers_are_open(client: Client, demo: ExchangeAccount, redis_server: TestRedis) -> None:
    limits.force_breaker("demo", limits.Kind.PLACE, "open")
    limits.force_breaker("demo", limits.Kind.READ, "closed")
    families = scrape(client)
    states = {s.labels["kind"]: s.value for s in families["backoffice_breaker_open"].samples}
    assert states == {"place": 1, "cancel": 0, "read": 0}
    redis_server.stop()
    assert scrape(client)["backoffice_breaker_open"].samples == []


def test_metrics__counters_of_all_processes(
    client: Client, demo: ExchangeAccount, redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_paused_until", 0.0)  # another test may have stopped the server just now
    for outcome in ("ok", "ok", "NotSent"):
        metrics.count("exchange_calls", account="demo", call="place", outcome=outcome)
    metrics.count("odd-name", **{"a.b": 'quote " and \\'})
    families = scrape(client)
    assert value(families, "exchange_calls", call="place", outcome="ok") == 2
    assert value(families, "exchange_calls", call="place", outcome="NotSent") == 1
    assert families["backoffice_odd_name"].samples[0].labels == {"a_b": 'quote " and \\'}


def test_metrics__answer_while_redis_is_away(client: Client, demo: ExchangeAccount, redis_server: TestRedis) -> None:
    redis_server.stop()
    assert value(scrape(client), "unresolved_orders", account="demo") == 0


@pytest.mark.parametrize("accounts", [1, 20])
def test_metrics__ask_as_many_questions_whatever_the_number_of_accounts(
    client: Client, db: None, django_assert_max_num_queries: DjangoAssertNumQueries, accounts: int
) -> None:
    for _ in range(accounts):
        OrderFactory(account=ExchangeAccountFactory())
    with django_assert_max_num_queries(6):
        scrape(client)


def test_metrics__without_a_database_are_unavailable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExchangeAccount.objects, "select_related", no_database)
    response = client.get("/metrics")
    assert response.status_code == 503
    assert b"10.0.0.7" not in response.content


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic right-token", "right-token", "Bearer ключ"])
def test_metrics__want_their_token(client: Client, settings: Settings, header: str) -> None:
    settings.METRICS_TOKEN = "right-token"
    response = client.get("/metrics", headers={"Authorization": header} if header else {})
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_metrics__are_told_to_who_has_the_token(client: Client, db: None, settings: Settings, scheme: str) -> None:
    settings.METRICS_TOKEN = "right-token"
    assert "backoffice_trading_halted" in scrape(client, authorization=f"{scheme} right-token")
