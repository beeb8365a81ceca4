"""Kill the connection to the database at each wait of a piece of work, and repeat the work.

"Before" ends the session on the server before the statement arrives. "After" lets the statement,
mostly a commit, succeed and loses only its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

import psycopg
import pytest
from django.db import connection
from django.db.models import Sum
from pytest_django.fixtures import Settings

from backoffice.postgres.sessions import BoundedConnection
from exchanges import clock
from exchanges.mirror.balances import release_covered, sync_balances
from exchanges.models import Balance, ExchangeAccount, Lease
from orders import services
from orders.db_retry import is_database_away
from orders.intents import parse_intent
from orders.models import ExchangeOrder, Fill, Order, ReconciliationBreak
from orders.reconciliation.account import reconcile_account
from orders.reconciliation.open_orders import sync_open_orders
from orders.sweep import resolve_unconfirmed
from tests.factories import ExchangeAccountFactory
from tests.fakes import FakeExchange
from tests.orders.reconciliation.test_compare import client_id

pytestmark = [
    pytest.mark.long,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("without_limits"),
]

MOST_WAITS = 300
T = TypeVar("T")
Work = Callable[[], object]


class Killer:
    """Kill the connection at the wait with the number `at`, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
        self._url = url
        self._at = self._count = 0
        self._is_after = self.has_killed = False
        self._wait = BoundedConnection.wait
        monkeypatch.setattr(BoundedConnection, "wait", self._counted())

    def arm(self, at: int, *, after: bool) -> None:
        self._at, self._is_after, self._count, self.has_killed = at, after, 0, False

    def disarm(self) -> None:
        self._at = 0

    def _counted(self) -> Callable[..., Any]:
        killer, wait = self, self._wait

        def counted(own: Any, *args: Any, **kwargs: Any) -> Any:
            killer._count += bool(killer._at)
            if not killer._at or killer._count != killer._at:
                return wait(own, *args, **kwargs)
            killer.has_killed = True
            if not killer._is_after:
                with psycopg.connect(killer._url, autocommit=True) as side:
                    side.execute("SELECT pg_terminate_backend(%s, 3000)", (own.info.backend_pid,))
                return wait(own, *args, **kwargs)
            wait(own, *args, **kwargs)
            own.close()
            raise psycopg.OperationalError("the answer is lost")

        return counted


@dataclass
class Watch:
    """A clock that is ahead of the real one."""

    ahead: float = 0.0


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch, now, now_ms = Watch(), clock.now, clock.now_ms
    monkeypatch.setattr(clock, "now", lambda: now() + timedelta(seconds=watch.ahead))
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + int(watch.ahead * 1000))
    monkeypatch.setattr(clock, "sleep", lambda seconds: None)
    return watch


@pytest.fixture
def killer(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> Killer:
    return Killer(monkeypatch, postgres_url)


@pytest.fixture
def exchange(settings: Settings) -> Iterator[FakeExchange]:
    settings.EXCHANGE_READ_LAG_MS = 0
    with FakeExchange({"USDT": "100000", "BTC": "1"}).installed() as exchange:
        yield exchange


def until_done(work: Callable[[], T]) -> T:
    """Repeat the work while the database is away, as the durable body of a task does."""
    for _ in range(10):
        try:
            return work()
        except Exception as error:
            if not is_database_away(error):
                raise
            connection.close()
    raise AssertionError("the work never ended")


def submit(account: ExchangeAccount, **changes: Any) -> Order:
    given = {
        "intent_id": "i-1", "account": account.name, "symbol": "BTCUSDT", "side": "BUY",
        "order_type": "LIMIT", "quantity": "0.01", "price": "40000", "place_within_seconds": 600,
        **changes,
    }  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    return services.submit_order(parse_intent(given, now=clock.now()))


def sweep() -> None:
    Order.objects.filter(next_check_at__isnull=False).update(next_check_at=clock.now())
    Lease.objects.all().delete()
    resolve_unconfirmed()


def settle(account: ExchangeAccount, watch: Watch) -> None:
    for _ in range(6):
        watch.ahead += 30
        until_done(sweep)
        until_done(lambda: sync_open_orders(account))
        until_done(lambda: sync_balances(account))
        until_done(release_covered)


# -- The pieces of work ----------------------------------------------------------------------------

Prepare = Callable[[FakeExchange, ExchangeAccount, Watch], Work]


def place_limit(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    return lambda: submit(account)


def place_market(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    return lambda: submit(account, order_type="MARKET", price=None)


def be_refused(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    exchange.answer("place", 400, -2010, "Account has insufficient balance for requested action.")
    return lambda: submit(account)


def cancel(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    submit(account)
    return lambda: services.cancel_order(
        account=account.name, intent_id="i-1", requested_by="message:bot"
    )


def find(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    exchange.lose_answer("place", executed=True)
    submit(account)
    return sweep


def send_again(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    exchange.lose_answer("place", executed=False)
    submit(account)
    watch.ahead += 30
    return sweep


def compare(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    exchange.place_by_hand(account, f"hand-{account.name}")
    return lambda: reconcile_account(account)


def learn_of_fill(exchange: FakeExchange, account: ExchangeAccount, watch: Watch) -> Work:
    exchange.fill(client_id(submit(account)))
    return lambda: sync_open_orders(account)


WORK: dict[str, tuple[Prepare, int]] = {  # and the orders at the exchange
    "place a limit order": (place_limit, 1),
    "place a market order": (place_market, 1),
    "be refused": (be_refused, 0),
    "cancel": (cancel, 1),
    "find an order": (find, 1),
    "send again": (send_again, 1),
    "compare": (compare, 1),
    "learn of a fill": (learn_of_fill, 1),
}


def problems(exchange: FakeExchange, account: ExchangeAccount, count: int) -> list[str]:
    """Return the differences between the book and the exchange, and everything unsettled."""
    theirs = exchange.simulator.engine.truth()["accounts"].get(account.name, {"orders": []})
    ours = {row.exchange_order_id: row for row in ExchangeOrder.objects.filter(account=account)}
    found = [] if len(theirs["orders"]) == count else [f"{len(theirs['orders'])} orders there"]
    for row in theirs["orders"]:
        own = ours.get(str(row["order_id"]))
        if own is None or own.exchange_status != row["status"]:
            found.append(f"{row['client_order_id']}: {row['status']} there, here {own}")
    orders = Order.objects.filter(account=account)
    found += [f"{row.status} is still due" for row in orders if row.next_check_at is not None]
    filled = Fill.objects.filter(account=account).aggregate(sum=Sum("quantity"))["sum"]
    if (filled or 0) != sum((row.filled_quantity for row in orders), Decimal(0)):
        found.append(f"fills of {filled}")
    reserved = Balance.objects.filter(account=account).exclude(reserved=0)
    found += [f"{row.reserved} {row.asset} reserved" for row in reserved]
    breaks = ReconciliationBreak.objects.filter(account=account, resolved_at=None)
    return found + [f"break {kind}" for kind in breaks.values_list("kind", flat=True)]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", WORK)
def test_work__survives_the_loss_of_its_connection_at_every_wait(
    exchange: FakeExchange, killer: Killer, watch: Watch, name: str, *, after: bool
) -> None:
    prepare, count = WORK[name]
    for at in range(1, MOST_WAITS):
        account = ExchangeAccountFactory(name=f"a{at}")
        exchange.gateway(account)
        sync_open_orders(account)
        sync_balances(account)
        work = prepare(exchange, account, watch)
        killer.arm(at, after=after)
        until_done(work)
        killer.disarm()
        connection.close()
        settle(account, watch)
        assert problems(exchange, account, count) == [], f"killed at wait {at}"
        if not killer.has_killed:
            return
    raise AssertionError(f"more than {MOST_WAITS} waits")
