"""Check the metrics behind `/metrics`, and who may read them."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from django.test import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.db.duty_runs import stamp_runs
from exchanges.limits import breaker, counters
from exchanges.models import ExchangeAccount, StreamState
from exchanges.trading_state import halt_trading
from exchanges.types import CallKind
from tests.factories import ExchangeAccountFactory, OrderFactory, ReconciliationBreakFactory
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis
from tests.steps import no_database, submit


@pytest.fixture(autouse=True)
def _open(settings: Settings) -> None:
    settings.METRICS_OPEN = True


def scrape(client: Client, **headers: str) -> dict[str, Metric]:
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        family.name: family for family in text_string_to_metric_families(response.content.decode())
    }


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    (found,) = (
        s.value
        for s in families[f"backoffice_{name}"].samples
        if labels.items() <= s.labels.items()
    )
    return found


def test_metrics__count_orders_by_status(client: Client, demo: ExchangeAccount) -> None:
    now = clock.now()
    for status in (
        "HELD",
        "CREATED",
        "PENDING_NEW",
        "PENDING_NEW",
        "NEW",
        "PARTIALLY_FILLED",
        "FILLED",
        "FILLED",
    ):
        OrderFactory(account=demo, status=status, created_at=now - timedelta(minutes=1))
    OrderFactory(account=demo, status="NEW", created_at=now - timedelta(days=3))
    OrderFactory(account=demo, status="FILLED", created_at=now - timedelta(days=3))
    families = scrape(client)
    open_now = {
        s.labels["status"]: s.value for s in families["backoffice_orders_not_closed"].samples
    }
    assert open_now == {
        "HELD": 1,
        "CREATED": 1,
        "PENDING_NEW": 2,
        "NEW": 2,
        "PARTIALLY_FILLED": 1,
    }
    assert value(families, "orders_recorded_24h", account="demo", status="FILLED") == 2
    assert value(families, "orders_recorded_24h", account="demo", status="NEW") == 1
    assert value(families, "orders_recorded_24h", account="demo", status="REJECTED") == 0


def test_metrics__tell_unresolved_orders_and_the_age_of_the_oldest(
    client: Client, demo: ExchangeAccount
) -> None:
    ExchangeAccountFactory(name="quiet")
    OrderFactory(account=demo, status="PENDING_NEW", created_at=clock.now() - timedelta(seconds=90))
    OrderFactory(account=demo, status="CREATED", created_at=clock.now() - timedelta(seconds=5))
    OrderFactory(account=demo, status="NEW", created_at=clock.now() - timedelta(hours=5))
    families = scrape(client)
    assert value(families, "unresolved_orders", account="demo") == 2
    assert value(families, "unresolved_oldest_age_seconds", account="demo") == pytest.approx(
        90, abs=30
    )
    assert value(families, "unresolved_orders", account="quiet") == 0
    assert value(families, "unresolved_oldest_age_seconds", account="quiet") == 0


def test_metrics__tell_breaks_states_and_the_last_sync(
    client: Client, demo: ExchangeAccount
) -> None:
    ReconciliationBreakFactory(account=demo, kind="FILL_GAP")
    ReconciliationBreakFactory(account=demo, kind="OVERFILL", resolved_at=clock.now())
    ExchangeAccountFactory(
        name="synced", is_enabled=False, last_synced_at=clock.now() - timedelta(seconds=60)
    )
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
    known = {
        "connected_since": now,
        "in_sync_since": now,
        "last_event_at": now - timedelta(seconds=60),
        "lag_ms": 250,
    }
    StreamState.objects.create(account=demo, alive_at=now, **known)
    StreamState.objects.create(
        account=ExchangeAccountFactory(name="forgotten"),
        alive_at=now - timedelta(hours=1),
        in_sync_since=now,
    )
    ExchangeAccountFactory(name="without")
    families = scrape(client)
    in_sync = {s.labels["account"]: s.value for s in families["backoffice_stream_in_sync"].samples}
    assert in_sync == {"demo": 1, "forgotten": 0, "without": 0}
    connected = {
        s.labels["account"]: s.value for s in families["backoffice_stream_connected"].samples
    }
    assert connected == {"demo": 1, "forgotten": 0, "without": 0}
    assert [s.value for s in families["backoffice_stream_lag_seconds"].samples] == [0.25]
    assert value(families, "stream_seconds_since_event", account="demo") == pytest.approx(
        60, abs=30
    )


def test_metrics__tell_which_breakers_are_open(
    client: Client, demo: ExchangeAccount, redis_server: TestRedis
) -> None:
    breaker.force_breaker("demo", CallKind.PLACE, "open")
    breaker.force_breaker("demo", CallKind.READ, "closed")
    families = scrape(client)
    states = {s.labels["kind"]: s.value for s in families["backoffice_breaker_open"].samples}
    assert states == {"place": 1, "cancel": 0, "read": 0}
    redis_server.stop()
    assert scrape(client)["backoffice_breaker_open"].samples == []


def test_metrics__counters_of_all_processes(
    client: Client, demo: ExchangeAccount, redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        counters, "_paused_until", 0.0
    )  # another test may have stopped the server just now
    for outcome in ("ok", "ok", "NotSent"):
        counters.count("exchange_calls", account="demo", call="place", outcome=outcome)
    # Whoever reaches Redis, or sends messages, makes no new series.
    counters.count("odd-name", **{"a.b": "c"})
    for number in range(50):
        made_up = {"account": f"a-{number}", "call": f"c-{number}", "outcome": f"o-{number}"}
        counters.count("exchange_calls", **made_up)
        counters.count("invalid_intents", task="submit_order", field=f"f-{number}")
        counters.observe("order_stage_seconds", 0.1, stage=f"s-{number}")
    families = scrape(client)
    assert value(families, "exchange_calls", call="place", outcome="ok") == 2
    assert value(families, "exchange_calls", call="place", outcome="NotSent") == 1
    assert value(families, "exchange_calls", account="other", call="other", outcome="other") == 50
    assert value(families, "invalid_intents", task="submit_order", field="other") == 50
    assert len(families["backoffice_exchange_calls"].samples) == 3
    assert len(families["backoffice_invalid_intents"].samples) == 1
    assert families["backoffice_order_stage_seconds"].samples == []
    assert "backoffice_odd_name" not in families


def test_metrics__answer_while_redis_is_away(
    client: Client, demo: ExchangeAccount, redis_server: TestRedis
) -> None:
    redis_server.stop()
    assert value(scrape(client), "unresolved_orders", account="demo") == 0


@pytest.mark.parametrize("accounts", [1, 20])
def test_metrics__ask_as_many_questions_whatever_the_number_of_accounts(
    client: Client, db: None, django_assert_max_num_queries: DjangoAssertNumQueries, accounts: int
) -> None:
    for _ in range(accounts):
        OrderFactory(account=ExchangeAccountFactory())
    with django_assert_max_num_queries(8):
        scrape(client)


def test_metrics__without_a_database_are_unavailable(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ExchangeAccount.objects, "select_related", no_database)
    response = client.get("/metrics")
    assert response.status_code == 503
    assert b"10.0.0.7" not in response.content


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong", "Basic right-token", "right-token", "Bearer ключ"]
)
def test_metrics__want_their_token(client: Client, settings: Settings, header: str) -> None:
    settings.METRICS_TOKEN = "right-token"
    response = client.get("/metrics", headers={"Authorization": header} if header else {})
    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_metrics__are_told_to_who_has_the_token(
    client: Client, db: None, settings: Settings, scheme: str
) -> None:
    settings.METRICS_TOKEN = "right-token"
    assert "backoffice_trading_halted" in scrape(client, authorization=f"{scheme} right-token")


def test_metrics__show_the_stages_of_placements_as_histograms(
    client: Client, demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    assert submit(order_type="MARKET", price=None).status == "FILLED"
    assert submit("i-2", quantity="50").status == "DENIED"
    families = scrape(client)
    stages = families["backoffice_order_stage_seconds"].samples
    counts = {s.labels["stage"]: s.value for s in stages if s.name.endswith("_count")}
    placed = ("gated", "claimed", "sent", "answered", "recorded", "all", "first_fill")
    assert counts == dict.fromkeys(placed, 1), "a denied order was not placed"
    buckets = [s for s in stages if s.labels.get("le") and s.labels["stage"] == "all"]
    assert [s.value for s in buckets] == sorted(s.value for s in buckets), "cumulative"
    assert buckets[-1].labels["le"] == "+Inf"
    (total,) = (s.value for s in stages if s.name.endswith("_sum") and s.labels["stage"] == "all")
    parts = (s.value for s in stages if s.name.endswith("_sum") and s.labels["stage"] in placed[:5])
    assert total == pytest.approx(sum(parts))


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer right-token"])
def test_metrics__are_closed_without_a_token(
    client: Client, settings: Settings, header: str
) -> None:
    settings.METRICS_OPEN = False
    response = client.get("/metrics", headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert b"METRICS_OPEN=on" in response.content


def test_metrics__tell_a_duty_that_stands_still(client: Client, demo: ExchangeAccount) -> None:
    duty = {"duty": "orders.apply_halt_rules"}
    assert value(scrape(client), "duty_stands_still", **duty, account="demo") == 1
    stamp_runs("orders.apply_halt_rules", [demo.pk])
    families = scrape(client)
    assert value(families, "duty_stands_still", **duty, account="demo") == 0
    assert 0 <= value(families, "seconds_since_duty", **duty, account="demo") < 60
    assert value(families, "duty_stands_still", **duty, account="") == 1
    assert value(families, "seconds_since_duty", duty="consume trading", account="") == math.inf
