"""Read a symbol's history: the first read skips old orders, and no later read skips anything."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from exchanges import clock
from exchanges.binance.registry import get_gateway
from exchanges.errors import NotSent, OutcomeUnknown
from exchanges.models import ExchangeAccount, StreamState, SymbolCatchUp
from exchanges.types import OrderRequest, OrderType, Side, TimeInForce
from orders import services, tasks
from orders.models import BookIdentity, ExchangeOrder, Fill, Order, OrderEvent
from orders.reconciliation import history, pages
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.history import catch_up_symbol, ensure_caught_up
from tests import steps
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange

pytestmark = pytest.mark.django_db


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "1000000", "BTC": "1"}).installed() as exchange:
        yield exchange


@pytest.fixture
def old_account(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    for number in range(1200):
        place_by_hand(account, f"old-{number}")
        exchange.fill(f"old-{number}")
    return account


def place_by_hand(account: ExchangeAccount, client_order_id: str) -> None:
    get_gateway(account).place(
        OrderRequest(
            symbol="BTCUSDT",
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            client_order_id=client_order_id,
            timestamp_ms=clock.now_ms(),
            recv_window_ms=5000,
            quantity=Decimal("0.001"),
            price=Decimal(40000),
            time_in_force=TimeInForce.GTC,
        )
    )


@pytest.mark.long
def test_reconcile_account__does_not_import_years_of_history(
    old_account: ExchangeAccount, exchange: FakeExchange
) -> None:
    place_by_hand(old_account, "open-now")
    del exchange.calls[:]
    with capture_logs() as logs:
        result = reconcile_account(old_account)
    assert (result["external"], result["recovered"], result["breaks"]) == (1, 0, 0)
    assert [order.intent_id.partition(":")[0] for order in Order.objects.all()] == ["external"]
    assert not Fill.objects.exists()
    assert len(exchange.calls_of("fetch_all_orders")) == 1
    said = [entry for entry in logs if entry["event"] in ("history_begun", "account_reconciled")]
    assert [entry["external"] for entry in said] == [0, 1]
    assert result["history_begun"] == 1
    assert "history_begun" not in reconcile_account(old_account)


def test_reconcile_account__from_then_on_follows_everything(
    old_account: ExchangeAccount, exchange: FakeExchange, settings: Settings
) -> None:
    settings.EXCHANGE_READ_LAG_MS = 0
    place_by_hand(old_account, "open-now")
    reconcile_account(old_account)
    exchange.fill("open-now")
    reconcile_account(old_account)
    order = Order.objects.get()
    assert (order.status, order.is_external) == ("FILLED", True)


# -- page by page --------------------------------------------------------------------------------


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Read two pages of three orders in one run, and treat the newest orders as stable."""
    monkeypatch.setattr(history, "PAGE", 3)
    monkeypatch.setattr(pages, "PAGE", 3)
    monkeypatch.setattr(history, "PAGES_AT_ONCE", 2)
    settings.EXCHANGE_READ_LAG_MS = -1000


@pytest.fixture
def owner(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


submit = partial(steps.submit, quantity="0.001", price="40000")


def forget(count: int) -> None:
    """Delete the newest orders, like a restored backup."""
    lost = list(Order.objects.order_by("-created_at").values_list("pk", flat=True)[:count])
    with steps.as_a_restore():
        OrderEvent.objects.filter(order__in=lost).delete()
        Fill.objects.filter(order__in=lost).delete()
        ExchangeOrder.objects.filter(order__in=lost).delete()
        Order.objects.filter(pk__in=lost).delete()


# The request's own five seconds and the engine's ten, less what `short_turns` takes off.
FENCE = timedelta(seconds=14)


def distrust(at: datetime) -> None:
    BookIdentity.objects.update(distrusted_at=at)


def first_ids(exchange: FakeExchange) -> list[int]:
    return [
        int(asked["orderId"])
        for asked in exchange.calls_of("fetch_all_orders")
        if "orderId" in asked
    ]


def test_reconcile_account__finds_what_a_stranger_did_before_our_newest_order(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit("i-1")
    place_by_hand(owner, "by-hand")
    exchange.fill("by-hand")
    submit("i-2")
    reconcile_account(owner)
    order = Order.objects.get(is_external=True)
    assert (order.status, order.filled_quantity) == ("FILLED", Decimal("0.001"))


def test_sync_open_orders__while_the_stream_is_down_finds_what_a_stranger_has_ended(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit("i-1")
    place_by_hand(owner, "by-hand")
    exchange.fill("by-hand")
    now = clock.now()
    StreamState.objects.create(account=owner, alive_at=now, connected_since=now, in_sync_since=now)
    asked = len(exchange.calls_of("fetch_all_orders"))
    tasks.sync_open_orders("demo")
    assert len(exchange.calls_of("fetch_all_orders")) == asked
    StreamState.objects.update(in_sync_since=None)
    tasks.sync_open_orders("demo")
    assert Order.objects.get(is_external=True).status == "FILLED"


def test_read_on__takes_the_symbols_that_were_read_longest_ago(
    owner: ExchangeAccount, exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "SYMBOLS_AT_ONCE", 2)
    for number, symbol in enumerate(["BTCUSDT", "ETHUSDT", "BNBUSDT"]):
        read_at = clock.now() - timedelta(minutes=number)
        SymbolCatchUp.objects.create(
            account=owner, symbol=symbol, caught_up_at=read_at, read_until=0
        )
    for _ in range(2):
        history.read_on(owner)
    asked = [parameters["symbol"] for parameters in exchange.calls_of("fetch_all_orders")]
    assert asked == ["BNBUSDT", "ETHUSDT", "BTCUSDT", "BNBUSDT"]


@pytest.mark.usefixtures("short_turns")
def test_catch_up_symbol__stores_how_far_it_read_and_resumes_there(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit("i-1")
    reconcile_account(owner)
    caught_up_at = SymbolCatchUp.objects.get().caught_up_at
    for number in range(13):
        place_by_hand(owner, f"by-hand-{number}")
        exchange.fill(f"by-hand-{number}")
    del exchange.calls[:]
    readings = [catch_up_symbol(owner, "BTCUSDT", include_external=True) for _ in range(3)]
    assert [reading.is_complete for reading in readings] == [False, False, True]
    assert [reading.counts.external for reading in readings] == [6, 6, 1]
    assert first_ids(exchange) == sorted({*first_ids(exchange)})
    assert len(first_ids(exchange)) == 5
    assert SymbolCatchUp.objects.get().caught_up_at != caught_up_at


@pytest.mark.usefixtures("short_turns")
def test_catch_up_symbol__an_unfinished_reading_is_not_called_caught_up(
    owner: ExchangeAccount,
) -> None:
    submit("i-1")
    reconcile_account(owner)
    caught_up_at = SymbolCatchUp.objects.get().caught_up_at
    for number in range(7):
        place_by_hand(owner, f"by-hand-{number}")
    assert not catch_up_symbol(owner, "BTCUSDT", include_external=True).is_complete
    assert SymbolCatchUp.objects.get().caught_up_at == caught_up_at


@pytest.mark.usefixtures("short_turns")
def test_catch_up_symbol__keeps_the_pages_before_one_that_failed(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit("i-1")
    reconcile_account(owner)
    for number in range(4):
        place_by_hand(owner, f"by-hand-{number}")
    begun_at = SymbolCatchUp.objects.get().read_until
    assert begun_at is not None
    request = exchange.request

    def lose_the_second(account_name: str, method: str, parameters: dict[str, str]) -> object:
        if parameters.get("orderId") == str(begun_at + 4):
            exchange.lose_answer("fetch_all_orders", executed=False)
        return request(account_name, method, parameters)

    exchange.request = lose_the_second  # type: ignore[method-assign, assignment]
    with pytest.raises(OutcomeUnknown):
        catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert SymbolCatchUp.objects.get().read_until == begun_at + 3
    assert Order.objects.filter(is_external=True).count() == 3


@pytest.mark.usefixtures("short_turns")
def test_ensure_caught_up__nothing_is_sent_before_the_last_page_was_read(
    owner: ExchangeAccount, exchange: FakeExchange
) -> None:
    for number in range(8):
        submit(f"i-{number}")
    forget(7)
    waiting = submit("new")
    assert (waiting.status, len(exchange.calls_of("place"))) == ("CREATED", 8)
    assert Order.objects.filter(intent_id__startswith="recovered:").count() == 5
    distrust(clock.now() - FENCE)  # from now on a reading counts
    assert services.place_order(waiting.pk, is_due=True).status == "NEW"
    assert Order.objects.filter(intent_id__startswith="recovered:").count() == 7


@pytest.mark.usefixtures("short_turns")
def test_ensure_caught_up__leaves_strangers_to_the_comparison(owner: ExchangeAccount) -> None:
    submit("i-1")
    for number in range(7):
        place_by_hand(owner, f"by-hand-{number}")
    distrust(clock.now())
    with pytest.raises(NotSent):
        ensure_caught_up(owner, "BTCUSDT")
    ensure_caught_up(owner, "BTCUSDT")
    assert not Order.objects.filter(is_external=True).exists()
    reconcile_account(owner)
    assert Order.objects.filter(is_external=True).count() == 7


def test_catch_up_symbol__orders_of_the_last_moments_are_read_again(
    owner: ExchangeAccount, exchange: FakeExchange, settings: Settings
) -> None:
    submit("i-1")
    settings.EXCHANGE_READ_LAG_MS = 60_000
    reconcile_account(owner)
    first = int(ExchangeOrder.objects.get().exchange_order_id)
    place_by_hand(owner, "by-hand")
    catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert SymbolCatchUp.objects.get().read_until == 0, "no order here is stable yet"
    settings.EXCHANGE_READ_LAG_MS = -1000
    catch_up_symbol(owner, "BTCUSDT", include_external=True)
    assert SymbolCatchUp.objects.get().read_until == first + 1
    behind = first + 2  # two orders may be as many as the exchange puts on a page
    read = first_ids(exchange)[-4:]
    assert read == [1, behind, 1, behind], "an order before the first may be hidden still"


@pytest.mark.usefixtures("short_turns")
def test_reconcile_account__enqueues_itself_while_history_is_unread(
    owner: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit("i-1")
    reconcile_account(owner)
    for number in range(7):
        place_by_hand(owner, f"by-hand-{number}")
    again: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        tasks.reconcile_account, "apply_async", lambda arguments, **_: again.append(arguments)
    )
    assert tasks.reconcile_account("demo")["history_unread"] == 1
    assert again == [("demo",)]
    assert "history_unread" not in tasks.reconcile_account("demo")
    assert again == [("demo",)]
