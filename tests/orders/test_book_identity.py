"""Notice a database that went back in time, once for all processes, and wait for its past."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection
from pytest_django.fixtures import Settings

from exchanges import clock
from exchanges.binance.gateway import Gateway
from exchanges.binance.registry import get_gateway
from exchanges.limits import book_memory
from exchanges.limits import redis as shared
from exchanges.models import ExchangeAccount, SymbolCatchUp
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.exchange.exchange import Exchange
from exchanges.trading_state import halt_trading
from orders import book_identity, services
from orders.intents import Intent, parse_intent
from orders.models import (
    BookIdentity,
    ExchangeOrder,
    Fill,
    Order,
    OrderEvent,
    ReconciliationBreak,
)
from orders.reconciliation import history
from orders.reconciliation.adopt import siblings_of
from orders.reconciliation.open_orders import sync_open_orders
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis
from tests.steps import as_a_restore

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("account")]
Wide = Callable[[int], list[str]]


@pytest.fixture(autouse=True)
def _worker(redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_away_until", 0.0)
    monkeypatch.setattr(shared, "_is_required", True)


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange({"USDT": "1000000"}).installed() as exchange:
        yield exchange


@pytest.fixture
def account(exchange: FakeExchange) -> ExchangeAccount:
    account: ExchangeAccount = ExchangeAccountFactory(name="demo")
    return account


def parse(intent_id: str = "i-1", **changes: str) -> Intent:
    given = {"intent_id": intent_id, "account": "demo", "symbol": "BTCUSDT", "side": "BUY",
             "order_type": "LIMIT", "quantity": "0.001", "price": "40000"}  # fmt: skip
    return parse_intent({**given, **changes}, now=clock.now())


def submit(intent_id: str = "i-1", **changes: str) -> Order:
    return services.submit_order(parse(intent_id, **changes))


def record(intent_id: str = "i-1") -> Order:
    return services.record_order(parse(intent_id))[0]


def try_again(order: Order) -> Order:
    return services.place_order(order.pk, is_due=True)


def lose(*intent_ids: str) -> None:
    """Delete everything that the database knows of these intents."""
    with as_a_restore():
        for model in (OrderEvent, Fill, ExchangeOrder):
            model._default_manager.filter(order__intent_id__in=intent_ids).delete()
        Order.objects.filter(intent_id__in=intent_ids).delete()


def distrusted() -> list[str]:
    """Return the reasons for which the book was distrusted: none, or the last one."""
    rows = BookIdentity.objects.filter(distrusted_at__isnull=False)
    return list(rows.values_list("reason", flat=True))


def pass_the_fence() -> None:
    """Let the fence have passed just now."""
    now = clock.now()
    BookIdentity.objects.update(distrusted_at=now - (book_identity.trusted_from(now) - now))


def remembered() -> book_memory.Memory:
    return book_memory.read(private=False)


# -- Nothing went back ----------------------------------------------------------------------------


def test_submit_order__a_new_book_is_trusted_from_its_first_order(exchange: FakeExchange) -> None:
    assert [submit(f"i-{number}").status for number in range(3)] == ["NEW"] * 3

    assert distrusted() == []
    assert remembered().token == str(BookIdentity.objects.get().token)
    sent = ExchangeOrder.objects.order_by("-id").values_list("account_id", "client_order_id")
    assert remembered().claims == tuple(book_memory.claim_name(*claim) for claim in sent)
    assert len(exchange.calls_of("fetch_all_orders")) == 1


def test_submit_order__the_newest_claims_are_remembered_and_no_more() -> None:
    for number in range(book_memory.NEWEST + 4):
        submit(f"i-{number}")

    assert len(remembered().claims) == book_memory.NEWEST
    assert distrusted() == []


def test_submit_order__another_process_reads_and_distrusts_nothing(
    exchange: FakeExchange,
) -> None:
    """A fresh process, a forked child and a thread begin with an empty copy of the memory."""
    submit()
    book_memory._own.clear()
    asked = len(exchange.calls)

    assert submit("i-2").status == "NEW"

    assert distrusted() == []
    assert {name for name, _ in exchange.calls[asked:]} <= {"place", "fetch_time"}


# -- The book went back ---------------------------------------------------------------------------


def test_submit_order__a_missing_claim_lets_the_book_be_distrusted_once(
    exchange: FakeExchange,
) -> None:
    submit()
    exchange.fill(client_id("i-1"))
    lose("i-1")

    assert submit("i-2").status == "CREATED"
    first = BookIdentity.objects.get()
    assert [submit(f"i-{number}").status for number in range(3, 6)] == ["CREATED"] * 3

    again = BookIdentity.objects.get()
    assert (again.token, again.distrusted_at) == (first.token, first.distrusted_at)
    assert "1 of the newest claims are missing" in again.reason
    assert remembered() == book_memory.Memory(str(first.token))
    assert len(exchange.calls_of("place")) == 1


def test_submit_order__before_the_fence_the_order_waits_until_it(exchange: FakeExchange) -> None:
    submit()
    lose("i-1")

    waiting = submit("i-2")

    book = BookIdentity.objects.get()
    assert book.distrusted_at is not None
    assert waiting.next_check_at is not None
    left = waiting.next_check_at - book_identity.trusted_from(book.distrusted_at)
    assert timedelta(0) <= left < timedelta(seconds=1)
    asked = len(exchange.calls_of("fetch_all_orders"))
    assert try_again(waiting).status == "CREATED"
    assert len(exchange.calls_of("fetch_all_orders")) == asked, "one look before the fence"


def test_submit_order__after_the_fence_the_symbol_is_read_once_and_orders_go(
    exchange: FakeExchange,
) -> None:
    submit()
    lose("i-1")
    waiting = [submit(f"i-{number}") for number in range(2, 5)]
    asked = len(exchange.calls_of("fetch_all_orders"))
    pass_the_fence()

    assert [try_again(order).status for order in waiting] == ["NEW"] * 3

    assert len(exchange.calls_of("fetch_all_orders")) == asked + 1
    assert submit("i-5").status == "NEW"


@pytest.mark.parametrize("seconds", [1.0, 4.9])
def test_submit_order__an_order_that_queries_hide_for_now_is_not_sent_again(
    exchange: FakeExchange, settings: Settings, seconds: float
) -> None:
    """The exchange's queries lag: a reading before the fence doesn't show the lost order."""
    submit("warm-up")
    submit()
    exchange.fill(client_id("i-1"))
    exchange.hide(client_id("i-1"), seconds)
    lose("i-1")

    again = submit()
    assert again.status == "CREATED"
    exchange.hide(client_id("i-1"), 0)
    pass_the_fence()
    settings.EXCHANGE_READ_LAG_MS = 5000

    assert try_again(again).status == "FILLED"
    assert exchange.accepted(client_id("i-1")) == 1
    assert len(exchange.calls_of("place")) == 2


def test_submit_order__a_hidden_order_behind_a_newer_visible_one_is_not_sent_again(
    exchange: FakeExchange,
) -> None:
    """The list may show the newer of two orders first: a read must not go on behind both."""
    submit("warm-up")
    submit()
    exchange.fill(client_id("i-1"))
    submit("i-2")
    exchange.hide(client_id("i-1"), 4.0)
    lose("i-1", "i-2")

    again = submit()
    assert again.status == "CREATED"
    assert Order.objects.filter(intent_id__startswith="recovered:").count() == 1
    exchange.hide(client_id("i-1"), 0)
    pass_the_fence()

    assert try_again(again).status == "FILLED"
    assert exchange.accepted(client_id("i-1")) == 1
    assert len(exchange.calls_of("place")) == 3


def test_submit_order__an_older_token_is_distrusted(exchange: FakeExchange) -> None:
    """The copy is from before the last distrust, and nothing was claimed since."""
    submit()
    BookIdentity.objects.update(token=uuid4())

    assert submit("i-2").status == "CREATED"
    assert "is remembered" in distrusted()[0]
    assert len(exchange.calls_of("place")) == 1


def test_submit_order__a_flushed_redis_is_distrusted_once(
    exchange: FakeExchange, redis_server: TestRedis
) -> None:
    submit()
    redis_server.flush()

    waiting = submit("i-2")
    pass_the_fence()

    assert try_again(waiting).status == "NEW"
    assert distrusted() == ["nothing is remembered of it outside the database"]
    assert submit("i-3").status == "NEW"


def test_submit_order__database_and_redis_of_one_snapshot_are_distrusted_after_a_flush(
    exchange: FakeExchange, redis_server: TestRedis
) -> None:
    """They agree with each other, so only the operator knows (`docs/operations.md`)."""
    submit("warm-up")
    server = redis.Redis.from_url(redis_server.url)
    snapshot = {key: server.dump(key) or b"" for key in book_memory.redis_keys()}
    submit()
    exchange.fill(client_id("i-1"))
    lose("i-1")
    for key, value in snapshot.items():
        server.restore(key, 0, value, replace=True)
    redis_server.flush()

    again = submit()
    pass_the_fence()

    assert try_again(again).status == "FILLED"
    assert exchange.accepted(client_id("i-1")) == 1


def test_submit_order__a_database_and_a_redis_that_are_both_empty_meet_the_exchange(
    exchange: FakeExchange, redis_server: TestRedis
) -> None:
    submit("older")
    submit()
    exchange.fill(client_id("i-1"))
    lose("i-1", "older")
    SymbolCatchUp.objects.all().delete()
    BookIdentity.objects.all().delete()
    redis_server.flush()

    waiting = submit("i-2")

    assert waiting.status == "CREATED"
    assert "the exchange has" in distrusted()[0]
    assert (submit().status, submit("older").status) == ("FILLED", "NEW")
    pass_the_fence()
    assert try_again(waiting).status == "NEW"
    assert exchange.accepted(client_id("i-1")) == 1
    assert len(exchange.calls_of("place")) == 3


def test_submit_order__a_claim_lost_after_the_limits_were_asked_is_not_sent_again(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The permit was acquired, and the memory read, before the first claim and its loss."""
    submit("warm-up")
    acquire = Gateway.acquire_placement
    old = remembered()
    submit()
    exchange.fill(client_id("i-1"))
    lose("i-1")
    monkeypatch.setattr(
        Gateway, "acquire_placement", lambda self: replace(acquire(self), memory=old)
    )

    held_back = submit()

    monkeypatch.undo()
    monkeypatch.setattr(shared, "_is_required", True)
    assert held_back.status == "CREATED"
    assert "was claimed before" in distrusted()[0]
    assert len(exchange.calls_of("place")) == 2
    pass_the_fence()
    try_again(held_back)
    assert exchange.accepted(client_id("i-1")) == 1
    assert len(exchange.calls_of("place")) == 2


def test_submit_order__a_book_distrusted_during_the_claim_holds_it_back(
    exchange: FakeExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orders.placing import claim as claiming
    from orders.placing import claim_together

    submit("warm-up")
    claim = claiming.claim

    def claim_late(*arguments: Any) -> Any:
        claimed = claim(*arguments)
        book_memory.begin_again(str(uuid4()), private=False)
        return claimed

    monkeypatch.setattr(claim_together, "claim", claim_late)

    held_back = submit()

    assert held_back.status == "CREATED"
    assert ExchangeOrder.objects.get(order=held_back).outcome == "NOT_SENT"
    assert len(exchange.calls_of("place")) == 1


def test_submit_order__without_redis_a_worker_claims_nothing(
    exchange: FakeExchange, redis_server: TestRedis
) -> None:
    submit()
    redis_server.stop()

    assert submit("i-2").status == "CREATED"

    redis_server.start()
    assert ExchangeOrder.objects.count() == 1
    assert len(exchange.calls_of("place")) == 1


def test_submit_order__redis_that_goes_away_between_claim_and_send_holds_it_back(
    exchange: FakeExchange, redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orders.placing import claim as claiming
    from orders.placing import claim_together

    submit("warm-up")
    claim = claiming.claim

    def claim_and_lose_redis(*arguments: Any) -> Any:
        claimed = claim(*arguments)
        redis_server.stop()
        return claimed

    monkeypatch.setattr(claim_together, "claim", claim_and_lose_redis)

    assert submit().status == "CREATED"

    redis_server.start()
    assert len(exchange.calls_of("place")) == 1


@pytest.mark.parametrize("resolved", ["before it is noticed", "while it is distrusted"])
def test_submit_order__an_answer_that_came_late_hides_no_lost_order(
    exchange: FakeExchange, account: ExchangeAccount, resolved: str
) -> None:
    """The exchange numbers orders as they arrive: the surviving one may have the higher number."""
    submit("warm-up")
    exchange.lose_answer("place", executed=False)
    survivor = submit("slow", quantity="0.002")
    assert survivor.status == "PENDING_NEW"
    submit()
    exchange.fill(client_id("i-1"))
    slow = {"quantity": "0.002", "price": "40000"}
    exchange.place_by_hand(account, client_id("slow"), **slow)  # its request arrives after all
    lose("i-1")

    if resolved == "before it is noticed":
        resolve_unconfirmed()
    waiting = submit()
    resolve_unconfirmed()
    survivor.refresh_from_db()
    assert survivor.status == "NEW"
    pass_the_fence()

    assert try_again(waiting).status == "FILLED"
    assert exchange.accepted(client_id("i-1")) == 1
    assert len(exchange.calls_of("place")) == 3


def test_submit_order__a_copy_without_the_symbol_is_read_from_its_beginning(
    exchange: FakeExchange, settings: Settings
) -> None:
    """More orders were placed since than the exchange's newest page shows."""
    settings.EXCHANGE_READ_LAG_MS = 0  # so that these orders aren't of the last moments
    submit("elsewhere", symbol="ETHUSDT", price="2000", quantity="0.01")
    lost = [f"i-{number}" for number in range(8)]
    for intent_id in lost:
        submit(intent_id)
        exchange.fill(client_id(intent_id))
    lose(*lost)
    SymbolCatchUp.objects.filter(symbol="BTCUSDT").delete()
    exchange.longest_page = 3

    again = [submit(intent_id) for intent_id in lost]
    pass_the_fence()

    assert {try_again(order).status for order in again} == {"FILLED"}
    assert {exchange.accepted(client_id(intent_id)) for intent_id in lost} == {1}


def test_submit_order__a_second_loss_of_trust_hides_no_lost_order(
    exchange: FakeExchange, redis_server: TestRedis
) -> None:
    """Redis is flushed after one symbol is read and trades again, and before the other is."""
    submit("warm-up")
    submit("other", symbol="ETHUSDT", price="2000", quantity="0.01")
    submit()
    exchange.fill(client_id("i-1"))
    lose("i-1")
    waiting = submit("next", symbol="ETHUSDT", price="2000", quantity="0.01")
    pass_the_fence()
    assert try_again(waiting).status == "NEW"
    redis_server.flush()

    again = submit()
    assert again.status in ("CREATED", "FILLED")
    pass_the_fence()

    assert try_again(again).status == "FILLED"
    assert exchange.accepted(client_id("i-1")) == 1


@pytest.mark.parametrize("verdict", ["DENIED", "NOT_PLACED", "CANCELED"])
def test_sync__an_intent_that_came_again_and_was_closed_takes_the_state_of_its_lost_order(
    exchange: FakeExchange, account: ExchangeAccount, verdict: str
) -> None:
    """It was judged before the past was read: by a halt, by its deadline, or by a cancel."""
    submit("warm-up")
    submit()
    exchange.fill(client_id("i-1"))
    lose("i-1")
    submit("elsewhere", symbol="ETHUSDT", price="2000", quantity="0.01")
    if verdict == "DENIED":
        halt_trading(account=account, reason="restored", actor="eva")
        closed = submit()
    elif verdict == "NOT_PLACED":
        long_ago = (clock.now() - timedelta(minutes=5)).isoformat()
        closed = submit(submitted_at=long_ago)
    else:
        closed = record()
        services.cancel_order(account="demo", intent_id="i-1", requested_by="bot")
    closed.refresh_from_db()
    assert closed.status == verdict
    # The bot repeats it some minutes after the order was placed.
    Order.objects.filter(pk=closed.pk).update(created_at=clock.now() + timedelta(minutes=5))
    pass_the_fence()

    history.catch_up_symbol(account, "BTCUSDT")

    closed.refresh_from_db()
    assert closed.status == "FILLED"
    assert ReconciliationBreak.objects.filter(order=closed).exists()
    assert not Order.objects.filter(intent_id__startswith="recovered:").exists()


# -- A process that is no worker ------------------------------------------------------------------


@pytest.fixture
def alone(redis_server: TestRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shared, "_is_required", False)
    redis_server.stop()
    yield
    redis_server.start()


@pytest.mark.usefixtures("alone")
def test_submit_order__a_process_without_redis_remembers_by_itself(
    exchange: FakeExchange,
) -> None:
    assert [submit(f"i-{number}").status for number in range(3)] == ["NEW"] * 3
    lose("i-2")

    waiting = submit("i-3")

    assert waiting.status == "CREATED"
    assert "1 of the newest claims are missing" in distrusted()[0]
    pass_the_fence()
    assert try_again(waiting).status == "NEW"
    assert len(exchange.calls_of("place")) == 4


@pytest.mark.usefixtures("alone")
def test_submit_order__the_rows_of_an_earlier_test_are_not_missed() -> None:
    """As after a roll-back or a flush of all tables: the book is new again."""
    submit()
    lose("i-1")
    BookIdentity.objects.all().delete()
    SymbolCatchUp.objects.all().delete()
    FakeExchange()

    with FakeExchange({"USDT": "1000000"}).installed():
        assert submit("i-2").status == "NEW"

    assert distrusted() == []


def test_submit_order__inside_a_callers_transaction_nothing_is_remembered_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test of somebody's own with a Redis at hand: its rows will be rolled back."""
    monkeypatch.setattr(shared, "_is_required", False)

    assert submit().status == "NEW"
    assert submit("i-2").status == "NEW"

    assert not [key for key in book_memory.redis_keys() if shared.client().exists(key)]


# -- Many symbols ---------------------------------------------------------------------------------


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Wide:
    """Let exchanges begin with so many symbols."""

    def begin_with(count: int) -> list[str]:
        one = DEFAULT_SYMBOLS[0]
        symbols = tuple(
            replace(one, symbol=f"C{number}USDT", base_asset=f"C{number}")
            for number in range(count)
        )
        monkeypatch.setitem(Exchange.__init__.__kwdefaults__, "symbols", symbols)  # type: ignore[arg-type]
        return [spec.symbol for spec in symbols]

    return begin_with


def test_ensure_caught_up__before_the_fence_only_some_symbols_are_looked_at(
    wide: Wide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EARLY_LOOKS", 2)
    symbols = wide(4)
    with FakeExchange({"USDT": "1000000"}).installed() as exchange:
        submit(symbol=symbols[0])
        lose("i-1")
        waiting = [submit(f"of-{symbol}", symbol=symbol) for symbol in symbols]

        assert [order.status for order in waiting] == ["CREATED"] * 4
        early = [asked["symbol"] for asked in exchange.calls_of("fetch_all_orders")]
        assert early == [symbols[0], *symbols[:2]]


@pytest.mark.long
@pytest.mark.parametrize("count", [60, 400])
def test_submit_order__with_many_symbols_none_waits_for_another_ones_reading(
    wide: Wide, settings: Settings, count: int
) -> None:
    """After a start nothing is read. After a restore each symbol is read once, by its own order."""
    # A fence that stays until we let it pass, however long the machine takes for all the orders,
    # and deadlines that none of them meets meanwhile.
    settings.EXCHANGE_ENGINE_TIMEOUT_MS = 3_600_000
    settings.PLACE_WITHIN_SECONDS = 3_600
    *symbols, busy = wide(count + 1)
    with FakeExchange({"USDT": "10000000"}).installed() as exchange:
        # A page that is as long as the longest one known may be cut short, and costs one more.
        for number in range(5):
            submit(f"busy-{number}", symbol=busy)
        get_gateway(ExchangeAccount.objects.get()).fetch_all_orders(symbol=busy, limit=1000)
        for symbol in symbols:
            assert submit(f"first-{symbol}", symbol=symbol).status == "NEW"
        book_memory._own.clear()  # a start
        del exchange.calls[:]

        assert {submit(f"next-{symbol}", symbol=symbol).status for symbol in symbols} == {"NEW"}
        assert not exchange.calls_of("fetch_all_orders")

        lose(f"next-{symbols[-1]}")
        waiting = {symbol: submit(f"third-{symbol}", symbol=symbol) for symbol in symbols}
        assert {order.status for order in waiting.values()} == {"CREATED"}
        pass_the_fence()
        del exchange.calls[:]

        for symbol, order in waiting.items():
            began = len(exchange.calls)
            assert try_again(order).status == "NEW"
            asked = [sent for name, sent in exchange.calls[began:] if name == "fetch_all_orders"]
            assert [sent["symbol"] for sent in asked] == [symbol]

        assert len(exchange.calls_of("fetch_all_orders")) == count


# -- Recovering among many ------------------------------------------------------------------------


def copy_attempts(count: int) -> None:
    """Copy the one attempt that there is, with ids of their own."""
    changed = {
        "id": "-n",
        "order_id": "gen_random_uuid()",
        "client_order_id": "'bo-' || substr(md5(n::text), 1, 26) || '-1'",
        "exchange_order_id": "''",
    }
    columns = [str(field.column) for field in ExchangeOrder._meta.concrete_fields]
    values = ", ".join(changed.get(column, f'e."{column}"') for column in columns)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # no foreign keys
        cursor.execute(
            f"INSERT INTO orders_exchangeorder ({', '.join(columns)}) SELECT {values}"
            f" FROM orders_exchangeorder e, generate_series(1, {count}) n"
        )
        cursor.execute("SET LOCAL session_replication_role = origin")
        cursor.execute("ANALYZE orders_exchangeorder")


@pytest.mark.parametrize("rows", [20_000, pytest.param(400_000, marks=pytest.mark.long)])
def test_siblings_of__finds_the_attempts_of_one_intent_by_an_index(
    account: ExchangeAccount, rows: int
) -> None:
    submit()
    copy_attempts(rows)

    began = clock.monotonic()
    plan = siblings_of(account, "a" * 26, 2).explain()
    assert siblings_of(account, "a" * 26, 2).first() is None

    assert "Index" in plan, plan
    assert "Seq Scan" not in plan, plan
    assert clock.monotonic() - began < 0.5


def client_id(intent_id: str) -> str:
    from orders.ids import client_order_id, hash_for

    environment = ExchangeAccount.objects.get().environment
    hashed = hash_for(environment=environment, account="demo", intent_id=intent_id)
    return client_order_id(hashed, 1)


# -- Amended by hand -------------------------------------------------------------------------------


def amend(exchange: FakeExchange, name: str, quantity: str, new_name: str = "web_1") -> None:
    """Amend an order a moment after it was placed."""
    exchange.offset_ms += 5
    exchange.amend_by_hand(name, quantity, new_name)


@pytest.mark.parametrize("is_known_as_external", [False, True])
@pytest.mark.parametrize("ends", ["open", "filled"])
def test_submit_order__a_lost_order_that_was_amended_is_not_sent_again(
    exchange: FakeExchange, account: ExchangeAccount, ends: str, is_known_as_external: bool
) -> None:
    submit("before")
    submit("i-1", quantity="0.003")
    name = client_id("i-1")
    amend(exchange, name, "0.002")
    amend(exchange, "web_1", "0.001", "web_2")
    if ends == "filled":
        exchange.fill("web_2")
    lose("i-1")
    if is_known_as_external:
        history.catch_up_symbol(account, "BTCUSDT", include_external=True)
        sync_open_orders(account)
        assert Order.objects.filter(is_external=True).exists() or ends == "filled"

    order = submit("i-1", quantity="0.003")
    if order.status == "CREATED":  # the first look didn't show it
        pass_the_fence()
        order = try_again(order)

    assert order.status == ("NEW" if ends == "open" else "FILLED")
    assert len(exchange.calls_of("place")) == 2
    attempt = order.exchange_orders.get()
    assert (attempt.client_order_id, attempt.amended_client_order_id) == (name, "web_2")
    assert order.quantity == Decimal("0.003")
    assert not Order.objects.filter(is_external=True).exists()


def test_submit_order__an_amended_order_of_someone_else_stays_theirs(
    exchange: FakeExchange, account: ExchangeAccount
) -> None:
    submit("before")
    submit("i-1")
    exchange.place_by_hand(account, "theirs", quantity="0.002", price="40000")
    amend(exchange, "theirs", "0.001")
    exchange.cancel(client_id("i-1"))
    lose("i-1")
    order = submit("i-2")
    pass_the_fence()
    assert try_again(order).status == "NEW"
    assert len(exchange.calls_of("place")) == 3
