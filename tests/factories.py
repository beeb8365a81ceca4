"""Make consistent rows for tests: derived fields follow the others (FILLED is filled in full).

The factories write straight into the tables, past the services, so they prove nothing about how
such rows come to be.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar, cast

import factory
from django.db.models import Model

from exchanges import clock
from exchanges.models import AccountSync, Balance, Environment, ExchangeAccount, Instrument
from exchanges.types import EXACT, Side
from orders import states
from orders.ids import client_order_id, intent_hash
from orders.models import (
    AttemptOutcome,
    EventType,
    ExchangeOrder,
    Fill,
    Order,
    OrderEvent,
    ReconciliationBreak,
    Status,
)

Row = TypeVar("Row", bound=Model)


class Factory(factory.django.DjangoModelFactory, Generic[Row]):  # type: ignore[misc]
    """Typed, so calling it returns the row."""

    class Meta:
        abstract = True


class ExchangeAccountFactory(Factory[ExchangeAccount]):
    class Meta:
        model = ExchangeAccount
        django_get_or_create = ("name",)

    name = factory.Sequence(lambda n: f"account-{n}")
    environment = Environment.SIMULATOR

    @classmethod
    def create(cls, **kwargs: Any) -> ExchangeAccount:
        moments = {
            name: kwargs.pop(name) if name in kwargs else clock.now()
            for name in ("last_synced_at", "balances_synced_at")
        }
        account: ExchangeAccount = super().create(**kwargs)
        AccountSync.objects.update_or_create(account=account, defaults=moments)
        return account


def exchange_filters(
    *, tick: str = "0.01000000", step: str = "0.00001000", least: str = "5.00000000"
) -> list[Any]:
    """Return the filters of a symbol in exchangeInfo's form."""
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": tick,
            "maxPrice": "1000000.00000000",
            "tickSize": tick,
        },
        {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.00000000", "stepSize": step},
        {
            "filterType": "NOTIONAL",
            "minNotional": least,
            "applyMinToMarket": True,
            "avgPriceMins": 5,
        },
    ]


class InstrumentFactory(Factory[Instrument]):
    class Meta:
        model = Instrument
        django_get_or_create = ("exchange", "environment", "symbol")

    exchange = "binance"
    environment = Environment.SIMULATOR
    base_asset = "BTC"
    quote_asset = "USDT"
    symbol = factory.LazyAttribute(lambda row: f"{row.base_asset}{row.quote_asset}")
    status = "TRADING"
    order_types = factory.LazyFunction(
        lambda: ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT"]
    )
    filters = factory.LazyFunction(exchange_filters)


class BalanceFactory(Factory[Balance]):
    class Meta:
        model = Balance
        django_get_or_create = ("account", "asset")

    account = factory.SubFactory(ExchangeAccountFactory)
    asset = "USDT"
    free = Decimal(100000)
    locked = Decimal(0)
    updated_at = factory.LazyFunction(clock.now)


def _filled(row: Any) -> Decimal:
    if row.status == Status.FILLED:
        return Decimal(row.quantity)
    return Decimal(row.quantity) / 4 if row.status == Status.PARTIALLY_FILLED else Decimal(0)


def _next_check_at(row: Any) -> datetime | None:
    if row.status == Status.HELD:
        return cast("datetime", row.place_by)  # nothing comes before a person or the deadline
    if row.status in states.UNRESOLVED:
        return cast("datetime", row.created_at + timedelta(seconds=2))
    return None


class OrderFactory(Factory[Order]):
    """A LIMIT order, CREATED unless `status` differs."""

    class Meta:
        model = Order

    account = factory.SubFactory(ExchangeAccountFactory)
    intent_id = factory.Sequence(lambda n: f"intent-{n}")
    symbol = "BTCUSDT"
    side = Side.BUY
    order_type = "LIMIT"
    time_in_force = factory.LazyAttribute(
        lambda row: "" if row.order_type in ("MARKET", "LIMIT_MAKER") else "GTC"
    )
    quantity = Decimal("0.01")
    price = factory.LazyAttribute(
        lambda row: None if row.order_type == "MARKET" else Decimal(50_000)
    )
    status = Status.CREATED
    filled_quantity = factory.LazyAttribute(_filled)
    average_price = factory.LazyAttribute(
        lambda row: (
            (row.price or Decimal(50_000)) if row.filled_quantity else None
        )  # a MARKET order has none
    )
    filled_quote_quantity = factory.LazyAttribute(
        lambda row: EXACT.multiply(row.filled_quantity, row.average_price or Decimal(0))
    )
    created_at = factory.LazyFunction(clock.now)
    submitted_at = factory.SelfAttribute("created_at")
    place_by = factory.LazyAttribute(lambda row: row.submitted_at + timedelta(seconds=30))
    attempt = factory.LazyAttribute(
        lambda row: int(row.status not in (Status.HELD, Status.CREATED, Status.DENIED))
    )
    verdict = factory.LazyAttribute(
        lambda row: (
            row.status if row.status in ("DENIED", "NOT_PLACED", Status.HELD) else Status.CREATED
        )
    )
    open_attempts = factory.LazyAttribute(lambda row: int(row.status == Status.PENDING_NEW))
    acknowledged_at = factory.LazyAttribute(
        lambda row: (
            None
            if row.status in {*states.UNRESOLVED, Status.HELD, "DENIED", "NOT_PLACED"}
            else row.created_at
        )
    )
    closed_at = factory.LazyAttribute(
        lambda row: row.created_at if row.status in states.CLOSED else None
    )
    next_check_at = factory.LazyAttribute(_next_check_at)


_OUTCOMES = {
    Status.PENDING_NEW: AttemptOutcome.IN_FLIGHT,
    Status.REJECTED: AttemptOutcome.REJECTED,
    Status.NOT_PLACED: AttemptOutcome.ABSENT,
    Status.CREATED: AttemptOutcome.NOT_SENT,
}
_SILENT = (
    AttemptOutcome.IN_FLIGHT,
    AttemptOutcome.UNKNOWN,
    AttemptOutcome.NOT_SENT,
    AttemptOutcome.ABSENT,
    AttemptOutcome.REJECTED,
)


def _client_order_id(row: Any) -> str:
    account = row.order.account
    hashed = intent_hash(
        deployment_id="main",
        environment=account.environment,
        account=account.name,
        intent_id=row.order.intent_id,
    )
    return client_order_id(hashed, row.attempt)


class ExchangeOrderFactory(Factory[ExchangeOrder]):
    """One request of its order, consistent with the order's status."""

    class Meta:
        model = ExchangeOrder
        skip_postgeneration_save = True

    order = factory.SubFactory(OrderFactory, status=Status.NEW)
    account = factory.SelfAttribute("order.account")
    symbol = factory.SelfAttribute("order.symbol")
    attempt = 1
    client_order_id = factory.LazyAttribute(_client_order_id)
    outcome = factory.LazyAttribute(
        lambda row: _OUTCOMES.get(row.order.status, AttemptOutcome.ACKNOWLEDGED)
    )
    exchange_order_id = factory.LazyAttributeSequence(
        lambda row, n: "" if row.outcome in _SILENT else str(28_000_000_000 + n)
    )
    exchange_status = factory.LazyAttribute(
        lambda row: "" if row.outcome in _SILENT else str(row.order.status)
    )
    quantity = factory.SelfAttribute("order.quantity")
    price = factory.SelfAttribute("order.price")
    filled_quantity = factory.SelfAttribute("order.filled_quantity")
    filled_quote_quantity = factory.SelfAttribute("order.filled_quote_quantity")
    fills_quantity = factory.SelfAttribute("filled_quantity")
    fills_quote_quantity = factory.SelfAttribute("filled_quote_quantity")
    sent_at = factory.SelfAttribute("order.created_at")
    request_timestamp_ms = factory.LazyAttribute(lambda row: int(row.sent_at.timestamp() * 1000))
    recv_window_ms = 5000
    acknowledged_at = factory.SelfAttribute("order.acknowledged_at")

    @factory.post_generation
    def _copied_to_order(self: Any, create: bool, extracted: Any) -> None:
        """Copy the exchange's id of the latest acknowledged request to the order."""
        if create and self.exchange_order_id:
            self.order.exchange_order_id = self.exchange_order_id
            self.order.save(update_fields=["exchange_order_id"])


class FillFactory(Factory[Fill]):
    """A trade of the whole filled quantity of its order by default."""

    class Meta:
        model = Fill

    exchange_order = factory.SubFactory(ExchangeOrderFactory, order__status=Status.FILLED)
    order = factory.SelfAttribute("exchange_order.order")
    account = factory.SelfAttribute("order.account")
    symbol = factory.SelfAttribute("order.symbol")
    side = factory.SelfAttribute("order.side")
    trade_id = factory.Sequence(lambda n: str(3_100_000 + n))
    quantity = factory.SelfAttribute("order.filled_quantity")
    price = factory.LazyAttribute(lambda row: row.order.average_price or row.order.price)
    quote_quantity = factory.LazyAttribute(lambda row: EXACT.multiply(row.quantity, row.price))
    commission = factory.LazyAttribute(
        lambda row: EXACT.multiply(
            row.quantity if row.side == Side.BUY else row.quote_quantity, Decimal("0.001")
        )
    )
    commission_asset = factory.LazyAttribute(
        lambda row: row.symbol.removesuffix("USDT") if row.side == Side.BUY else "USDT"
    )
    is_maker = False
    traded_at = factory.SelfAttribute("order.created_at")


class OrderEventFactory(Factory[OrderEvent]):
    class Meta:
        model = OrderEvent

    order = factory.SubFactory(OrderFactory)
    event_type = EventType.CREATED
    at = factory.SelfAttribute("order.created_at")
    actor = "bot"
    new_status = factory.SelfAttribute("order.status")


class ReconciliationBreakFactory(Factory[ReconciliationBreak]):
    class Meta:
        model = ReconciliationBreak

    account = factory.SubFactory(ExchangeAccountFactory)
    kind = "FILL_GAP"
    subject = factory.Sequence(lambda n: f"bo-subject-{n}")
    details = factory.LazyFunction(lambda: {"fills": "0.5", "filled": "0.75"})
