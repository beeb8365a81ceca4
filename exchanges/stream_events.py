"""What the private stream tells, as values, and how they are read from Binance's events. Pure.

`event_at` is when the exchange sent the event: our clock minus it is the lag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchanges.binance_reports import Malformed, Row, ended_because
from exchanges.types import BalanceReport, FillReport, OrderReport, ReportSource


@dataclass(frozen=True, slots=True)
class Connected:
    """Subscribed, by our clock. What happened before is not repeated: read it by REST now, then trust the stream."""

    subscribed_at: datetime


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One execution report; `report.fills` holds its trade, if it is one. `execution_id` is unique per symbol."""

    report: OrderReport
    execution_id: str
    event_at: datetime


@dataclass(frozen=True, slots=True)
class BalancesEvent:
    """New absolute figures of the assets that may have changed; the others are as they were."""

    balances: tuple[BalanceReport, ...]
    event_at: datetime


@dataclass(frozen=True, slots=True)
class BalanceDelta:
    """A deposit, withdrawal or transfer (`balanceUpdate`), or a lock from outside (`externalLockUpdate`)."""

    asset: str
    delta: Decimal
    cause: str
    cleared_at: datetime
    event_at: datetime


@dataclass(frozen=True, slots=True)
class ListStatus:
    """Something happened to an order list (OCO and the like); its orders have execution reports of their own."""

    symbol: str
    order_list_id: str
    status: str
    order_status: str
    event_at: datetime
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """No longer subscribed, or not yet; the next attempt comes in `retry_in` seconds. Events meanwhile are lost."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """The exchange refuses this key: the stream has ended and a person is needed."""

    reason: str
    code: int | None


@dataclass(frozen=True, slots=True)
class Bad:
    """A message that could not be read; the stream goes on."""

    raw: str
    error: str


StreamEvent = Connected | OrderEvent | BalancesEvent | BalanceDelta | ListStatus | Disconnected | Terminated | Bad


@dataclass(frozen=True, slots=True)
class Ended:
    """The exchange ends the subscription or the connection: subscribe anew."""

    reason: str


AccountEvent = OrderEvent | BalancesEvent | BalanceDelta | ListStatus | Ended


def read_event(message: Any) -> AccountEvent:
    """One event of the user data stream. Malformed when it is none, or of a kind that nobody knows."""
    row = Row(message, "event")
    kind = row.text("e")
    reader = _READERS.get(kind)
    if reader is None:
        raise Malformed(f"unknown event {kind!r}")
    return reader(row)


def _order_event(row: Row) -> OrderEvent:
    execution_type = row.text("x")
    client_order_id = _client_order_id(row, execution_type)
    filled_quote_quantity = row.signed("Z")
    report = OrderReport(
        source=ReportSource.STREAM,
        symbol=row.text("s"),
        client_order_id=client_order_id,
        exchange_order_id=row.identifier("i"),
        status=row.text("X"),
        side=row.side("S"),
        order_type=row.text("o"),
        time_in_force=row.text_or_empty("f"),
        quantity=row.figure("q"),
        price=row.figure("p"),
        filled_quantity=row.figure("z"),
        filled_quote_quantity=None if filled_quote_quantity < 0 else filled_quote_quantity,
        updated_at=row.time("T"),
        created_at=row.time("O"),
        quote_quantity=row.positive_or_none("Q"),
        stop_price=row.positive_or_none("P"),
        execution_type=execution_type,
        reason=ended_because(row, "r", "eR"),
        fills=_fills(row, execution_type, client_order_id),
        raw=row.fields,
    )
    return OrderEvent(report, row.identifier("I"), row.time("E"))


def _client_order_id(row: Row, execution_type: str) -> str:
    """The order's own id. On a cancel `c` is the id of the cancel request and `C` the order's; else `C` is empty.

    On an amendment `C` is the old id and `c` the one that the order has from now on.
    """
    original = row.text_or_empty("C")
    return original if original and execution_type != "REPLACED" else row.text("c")


def _fills(row: Row, execution_type: str, client_order_id: str) -> tuple[FillReport, ...]:
    """The trade of a TRADE report; a report with trade id -1 or nothing traded has none."""
    if execution_type != "TRADE" or row.integer("t") < 0 or row.figure("l") == 0:
        return ()
    fill = FillReport(
        symbol=row.text("s"),
        trade_id=row.identifier("t"),
        exchange_order_id=row.identifier("i"),
        side=row.side("S"),
        quantity=row.figure("l"),
        price=row.figure("L"),
        quote_quantity=row.figure("Y"),
        commission=row.signed("n"),
        commission_asset=row.text_or_empty("N"),
        is_maker=row.boolean("m"),
        traded_at=row.time("T"),
        client_order_id=client_order_id,
    )
    return (fill,)


def _balances_event(row: Row) -> BalancesEvent:
    updated_at = row.time("u")
    balances = tuple(
        BalanceReport(balance.text("a"), balance.figure("f"), balance.figure("l"), updated_at)
        for balance in row.rows("B")
    )
    return BalancesEvent(balances, row.time("E"))


def _balance_delta(row: Row) -> BalanceDelta:
    return BalanceDelta(row.text("a"), row.signed("d"), row.text("e"), row.time("T"), row.time("E"))


def _list_status(row: Row) -> ListStatus:
    return ListStatus(row.text("s"), row.identifier("g"), row.text("l"), row.text("L"), row.time("E"), raw=row.fields)


def _ended(row: Row) -> Ended:
    return Ended(row.text("e"))


_READERS: dict[str, Callable[[Row], AccountEvent]] = {
    "executionReport": _order_event,
    "outboundAccountPosition": _balances_event,
    "balanceUpdate": _balance_delta,
    "externalLockUpdate": _balance_delta,
    "listStatus": _list_status,
    "eventStreamTerminated": _ended,
    "serverShutdown": _ended,
}
