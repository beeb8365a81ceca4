"""Rules that have changed at the exchange are learned from the first order that meets them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from exchanges import clock, tasks
from exchanges.db import leases
from exchanges.errors import NotSent
from exchanges.instrument_rules import ExchangeInfo
from exchanges.mirror import instruments
from exchanges.models import Balance, ExchangeAccount, Instrument, LastPrice
from orders import services
from orders.models import Order, RiskLimit
from orders.placing.submit import ReadingMissing
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.harness.simulator import Simulator
from tests.steps import make_intent, submit

pytestmark = pytest.mark.django_db


def fresh(symbol: str = "BTCUSDT") -> Instrument:
    return Instrument.objects.get(symbol=symbol)


def forget(symbol: str) -> None:
    """Let our copy of a symbol's rules be the old one."""
    Instrument.objects.filter(symbol=symbol).delete()


def test_submit_order__an_unknown_symbol_is_asked_for_once(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    forget("ETHUSDT")
    assert submit("new", symbol="ETHUSDT", price="2000").status == "NEW"
    before = simulator.control.truth().requests["GET /api/v3/exchangeInfo"]
    for number in range(3):
        denied = submit(f"wrong-{number}", symbol="NOPEUSDT")
        assert (denied.status, denied.reason_code) == ("DENIED", "UNKNOWN_INSTRUMENT")
    asked = simulator.control.truth().requests["GET /api/v3/exchangeInfo"] - before
    assert asked <= 1


def test_submit_order__a_symbol_that_opened_meanwhile_trades_at_once(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    Instrument.objects.filter(symbol="BTCUSDT").update(
        status="PRE_TRADING", updated_at=clock.now() - timedelta(minutes=1)
    )
    assert submit("opened").status == "NEW"
    assert fresh().status == "TRADING"


def change_tick(tick: str) -> None:
    """Let our copy of the rules be another than the exchange's, read a moment ago."""
    row = fresh()
    row.filters = [
        {**item, "tickSize": tick} if item["filterType"] == "PRICE_FILTER" else item
        for item in row.filters
    ]
    row.updated_at = clock.now()
    row.save()


def test_submit_order__is_judged_again_by_the_rules_that_its_refusal_teaches(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up", price="50000.01").status == "NEW"
    change_tick("0.00001000")
    order = submit("old-tick", price="50000.00001")
    assert (order.status, order.attempt, order.reason) == ("NEW", 2, "")
    sent = order.exchange_orders.order_by("attempt")
    assert [row.outcome for row in sent] == ["NOT_SENT", "ACKNOWLEDGED"]
    assert sent[1].price == 50000
    assert simulator.control.truth().requests["POST /api/v3/order"] == 3


@pytest.mark.parametrize("code", [-1013, -2010])
def test_submit_order__is_judged_again_whichever_part_of_the_exchange_refuses(
    exchange: FakeExchange, code: int
) -> None:
    """Filters are checked before the matching engine (-1013) and in it (-2010)."""
    ExchangeAccountFactory(name="demo")
    assert submit("warm-up", price="50000.01").status == "NEW"
    change_tick("0.00001000")
    exchange.answer("place", 400, code, "Filter failure: PRICE_FILTER")
    order = submit("old-tick", price="50000.00001")
    assert (order.status, order.attempt, order.reason) == ("NEW", 2, "")


def test_submit_order__refused_while_another_worker_reads_the_new_rules_waits_for_them(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several orders of a burst meet the change. One worker reads, the others must not judge."""
    account = ExchangeAccountFactory(name="demo")
    assert submit("warm-up", price="50000.01").status == "NEW"
    change_tick("0.00001000")
    monkeypatch.setattr(instruments, "LEARN_WAIT_SECONDS", 0.05)
    with leases.lease(f"rules:{account.exchange}:{account.environment}:BTCUSDT"):
        refused = submit("old-tick", price="50000.00001")
        unknown = submit("new", symbol="NEWUSDT", price="2000")
        assert refused.status == "CREATED", refused.reason
    assert unknown.status == "DENIED"
    assert services.place_order(refused.pk, is_due=True).status == "NEW"


def test_submit_order__on_a_symbol_that_another_worker_is_asking_about_waits(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ExchangeAccountFactory(name="demo")
    assert submit("warm-up").status == "NEW"
    forget("ETHUSDT")
    monkeypatch.setattr(instruments, "LEARN_WAIT_SECONDS", 0.05)
    with leases.lease(f"rules:{account.exchange}:{account.environment}:ETHUSDT"):
        order = submit("new", symbol="ETHUSDT", price="2000")
        assert order.status == "CREATED", order.reason
    assert services.place_order(order.pk, is_due=True).status == "NEW"


def test_submit_order__a_refusal_that_newer_rules_would_not_prevent_stands(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    for intent_id in ("low", "low-again"):
        order = submit(intent_id, price="1000.00")  # below the average price's range
        assert (order.status, order.reason_code, order.attempt) == ("REJECTED", "-1013", 1)
        assert order.reason == "Filter failure: PERCENT_PRICE_BY_SIDE"
    assert simulator.control.truth().requests["POST /api/v3/order"] == 3
    reserved = Balance.objects.get(account=account, asset="USDT").reserved
    assert reserved == 500, "the money of the first order alone"


def test_submit_order__a_denial_by_old_filters_asks_for_the_new_ones(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    row = fresh()
    row.filters = [
        {**item, "minQty": "1.00000000"} if item["filterType"] == "LOT_SIZE" else item
        for item in row.filters
    ]
    row.updated_at = clock.now() - timedelta(minutes=1)
    row.save()
    assert submit("small").status == "NEW"


def test_submit_order__waits_while_the_rules_that_deny_it_are_unread(
    exchange: FakeExchange,
) -> None:
    ExchangeAccountFactory(name="demo")
    assert submit("warm-up").status == "NEW"
    exchange.refuse_connection("fetch_instruments")
    order = submit("new", symbol="NOPEUSDT")
    assert order.status == "CREATED", "it is not known yet that there is no such symbol"
    denied = services.place_order(order.pk, is_due=True)
    assert (denied.status, denied.reason_code) == ("DENIED", "UNKNOWN_INSTRUMENT")


def test_place_order__a_refused_order_survives_the_death_of_its_worker(
    exchange: FakeExchange,
) -> None:
    """Between the refusal and the reading the order is a CREATED row like any other."""
    ExchangeAccountFactory(name="demo")
    assert submit("warm-up").status == "NEW"
    exchange.answer("place", 400, -1013, "Filter failure: LOT_SIZE")
    with pytest.raises(ReadingMissing):
        services.submit_order(make_intent("i-1"), may_fetch=False)
    order = Order.objects.get(intent_id="i-1")
    assert (order.status, order.reason_code) == ("CREATED", "-1013")
    Order.objects.filter(pk=order.pk).update(next_check_at=clock.now())
    resolve_unconfirmed()
    order.refresh_from_db()
    assert (order.status, order.reason) == ("REJECTED", "Filter failure: LOT_SIZE")


def test_sync_instruments__an_empty_or_shrunken_answer_delists_nothing(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = ExchangeAccountFactory(name="demo")
    instruments.sync_instruments(account)
    full = exchange.gateway(account).fetch_exchange_info()
    for kept in (0, 1, 3):
        answer = ExchangeInfo(full.instruments[:kept], full.rate_limits)
        monkeypatch.setattr(
            "tests.fakes.FakeGateway.fetch_exchange_info", lambda self, answer=answer: answer
        )
        instruments.sync_instruments(account)
        assert not Instrument.objects.filter(status="DELISTED").exists()
    answer = ExchangeInfo(full.instruments[:-1], full.rate_limits)
    monkeypatch.setattr("tests.fakes.FakeGateway.fetch_exchange_info", lambda self: answer)
    instruments.sync_instruments(account)
    assert Instrument.objects.filter(status="DELISTED").count() == 1


def test_sync_instruments__goes_through_an_account_that_gets_an_answer(
    exchange: FakeExchange,
) -> None:
    ExchangeAccountFactory(name="a-revoked")
    ExchangeAccountFactory(name="b-healthy")
    exchange.refuse_connection("fetch_instruments")
    assert tasks.sync_instruments("a-revoked")["seen"] > 0
    exchange.refuse_connection("fetch_instruments", times=2)
    with pytest.raises(NotSent):
        instruments.sync_instruments_by_any(ExchangeAccount.objects.get(name="a-revoked"))


def test_submit_order__the_exchange_judges_its_average_price(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    """A last trade far from the average refuses nothing that the exchange accepts."""
    assert submit("warm-up").status == "NEW"
    LastPrice.objects.update_or_create(
        exchange=account.exchange,
        environment=account.environment,
        symbol="BTCUSDT",
        defaults={"price": 1_000_000, "traded_at": clock.now(), "asked_at": clock.now()},
    )
    assert submit("fine").status == "NEW"


def test_submit_order__asks_for_the_price_before_it_calls_it_too_old(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    assert submit("warm-up").status == "NEW"
    RiskLimit.objects.create(account=account, max_price_distance=50)
    LastPrice.objects.update_or_create(
        exchange=account.exchange,
        environment=account.environment,
        symbol="BTCUSDT",
        defaults={
            "price": 50_000,
            "traded_at": clock.now() - timedelta(minutes=5),
            "asked_at": clock.now() - timedelta(seconds=1),
        },
    )
    assert submit("fine").status == "NEW"
