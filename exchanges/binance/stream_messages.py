"""Read the events of the private stream into values. Pure.

`event_at` is the time when the exchange sent the event: our clock minus it is the lag.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from exchanges.binance.json_fields import (
    ASSET_WIDTH,
    SYMBOL_WIDTH,
    TIME_IN_FORCE_WIDTH,
    WORD_WIDTH,
    JsonObject,
    Malformed,
    named_by,
    read_rows,
)
from exchanges.binance.messages import ended_because, known_amount, order_id_text
from exchanges.types import BalanceReport, FillReport, OrderReport, ReportSource, Unreadable


@dataclass(frozen=True, slots=True)
class Connected:
    """Subscribed, by our clock.

    Earlier events are not repeated: read them by REST now, then trust the stream.
    """

    subscribed_at: datetime


@dataclass(frozen=True, slots=True)
class ExecutionReport:
    """One execution report. `report.fills` holds its trade, if it has one.

    `execution_id` is unique per symbol. It is empty if the exchange sent none that can be read.
    """

    report: OrderReport
    execution_id: str
    event_at: datetime


@dataclass(frozen=True, slots=True)
class BalancesEvent:
    """New absolute amounts of the assets that may have changed. The others are unchanged."""

    balances: tuple[BalanceReport, ...]
    event_at: datetime
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class BalanceDelta:
    """A deposit, withdrawal or transfer (`balanceUpdate`), or an external lock."""

    asset: str
    delta: Decimal
    cause: str
    cleared_at: datetime
    event_at: datetime


@dataclass(frozen=True, slots=True)
class ListStatus:
    """An order list (OCO and the like) changed. Its orders have their own execution reports."""

    symbol: str
    order_list_id: str
    status: str
    order_status: str
    event_at: datetime
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """Not subscribed. The next attempt starts in `retry_in` seconds. Events meanwhile are lost."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """The exchange refuses this key: the stream has ended, and a person must act."""

    reason: str
    code: int | None


@dataclass(frozen=True, slots=True)
class Bad:
    """A message that could not be read. The stream continues."""

    raw: str
    error: str


StreamEvent = (
    Connected
    | ExecutionReport
    | BalancesEvent
    | BalanceDelta
    | ListStatus
    | Disconnected
    | Terminated
    | Bad
)


@dataclass(frozen=True, slots=True)
class Ended:
    """The exchange ends the subscription or the connection: subscribe again."""

    reason: str


AccountEvent = ExecutionReport | BalancesEvent | BalanceDelta | ListStatus | Ended


def read_event(message: Any) -> AccountEvent:
    """Read one event of the user data stream. Raise `Malformed` for anything else."""
    row = JsonObject(message, "event")
    kind = row.text("e")
    reader = _READERS.get(kind)
    if reader is None:
        raise Malformed(f"unknown event {kind!r}")
    return reader(row)


def _execution_report(row: JsonObject) -> ExecutionReport:
    execution_type = row.text("x")
    client_order_id = _client_order_id(row, execution_type)
    report = OrderReport(
        source=ReportSource.STREAM,
        symbol=row.name_text("s", SYMBOL_WIDTH),
        client_order_id=client_order_id,
        exchange_order_id=row.number_text("i"),
        status=row.text("X")[:WORD_WIDTH],
        side=row.side("S"),
        order_type=row.text("o")[:WORD_WIDTH],
        time_in_force=row.text_or_empty("f")[:TIME_IN_FORCE_WIDTH],
        quantity=row.figure("q"),
        price=row.figure("p"),
        filled_quantity=row.figure("z"),
        filled_quote_quantity=known_amount(row.signed_or_none("Z")),
        updated_at=row.time("T"),
        created_at=row.time_or_none("O"),
        quote_quantity=row.positive_or_none("Q"),
        stop_price=row.positive_or_none("P"),
        execution_type=execution_type,
        previous_client_order_id=row.text_or_empty("C") if execution_type == "REPLACED" else "",
        reason=ended_because(row, "r", "eR"),
        fills=_fills(row, execution_type, client_order_id),
        raw=row.fields,
    )
    return ExecutionReport(report, _execution_id(row), row.time_of_first("E", "T"))


def _execution_id(row: JsonObject) -> str:
    """Read an id that nothing depends on, so that it can't make an event unreadable."""
    try:
        return row.identifier("I")
    except Malformed:
        return ""


def _client_order_id(row: JsonObject, execution_type: str) -> str:
    """Return the order's own id.

    On a cancel `c` is the id of the cancel request and `C` the order's, else `C` is empty. On an
    amendment `C` is the old id and `c` the one that the order has from now on.
    """
    original = row.text_or_empty("C")
    is_own = original and execution_type != "REPLACED"
    return order_id_text(original if is_own else row.text("c"))


def _fills(row: JsonObject, execution_type: str, client_order_id: str) -> tuple[FillReport, ...]:
    """Read the trade of a TRADE report. Trade id -1, or nothing traded, means that it has none.

    One that can't be read is left out: the filled quantity shows that it is missing, so it is
    fetched like any other missing trade.
    """
    if execution_type != "TRADE":
        return ()
    try:
        if row.integer("t") < 0 or row.figure("l") == 0:
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
            commission_asset=row.text_or_empty("N")[:ASSET_WIDTH],
            is_maker=row.boolean("m"),
            traded_at=row.time("T"),
            client_order_id=client_order_id,
        )
    except Malformed:
        return ()
    return (fill,)


def _balances_event(row: JsonObject) -> BalancesEvent:
    event_at = row.time("E")
    # The amounts can't be newer than the event. If they were, later ones would look older.
    updated_at = min(row.time_or_none("u") or event_at, event_at)

    def read(balance: JsonObject) -> BalanceReport:
        asset = balance.name_text("a", ASSET_WIDTH)
        return BalanceReport(asset, balance.figure("f"), balance.figure("l"), updated_at)

    found = read_rows(row.fields.get("B"), "balances", read, named_by("a"))
    return BalancesEvent(tuple(found), event_at, found.unreadable)


def _balance_delta(row: JsonObject) -> BalanceDelta:
    return BalanceDelta(row.text("a"), row.signed("d"), row.text("e"), row.time("T"), row.time("E"))


def _list_status(row: JsonObject) -> ListStatus:
    return ListStatus(
        row.text("s"),
        row.identifier("g"),
        row.text("l"),
        row.text("L"),
        row.time("E"),
        raw=row.fields,
    )


def _ended(row: JsonObject) -> Ended:
    return Ended(row.text("e"))


_READERS: dict[str, Callable[[JsonObject], AccountEvent]] = {
    "executionReport": _execution_report,
    "outboundAccountPosition": _balances_event,
    "balanceUpdate": _balance_delta,
    "externalLockUpdate": _balance_delta,
    "listStatus": _list_status,
    "eventStreamTerminated": _ended,
    "listenKeyExpired": _ended,
    "serverShutdown": _ended,
}
