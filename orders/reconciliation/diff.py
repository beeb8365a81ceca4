"""Compare our book with one read of the exchange, and decide on an action for each order. Pure.

A failed call never gets here: the caller has complete answers, or doesn't compare.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from exchanges.types import EXACT, BalanceReport, OrderReport, Side, plain
from orders.recording.merge import STAGE

RESET_FROM = 2
RESET_SAMPLE = 20


class Step(StrEnum):
    """Name the next step for one order."""

    APPLY = "apply"  # The exchange says something that we don't know yet.
    ADOPT = "adopt"  # The exchange has an order that we have no row for.
    ASK = "ask"  # It is open in our book and missing in the list: ask for it before any verdict.
    FETCH_FILLS = "fetch_fills"  # Both agree on the filled quantity, and our trades don't add up.


@dataclass(frozen=True, slots=True)
class OurOrder:
    """The part of one of our open attempts that a comparison needs."""

    client_order_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    exchange_status: str
    quantity: Decimal | None
    price: Decimal | None
    filled_quantity: Decimal
    fills_quantity: Decimal
    touched_at: datetime


@dataclass(frozen=True, slots=True)
class Action:
    """One step for an order. `key` is our client order id, `report` the exchange's, if any."""

    step: Step
    key: str
    report: OrderReport | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference that evidence can't repair. Each (kind, subject) becomes one break."""

    kind: str
    subject: str
    details: Mapping[str, str]


def compare_open_orders(
    ours: Sequence[OurOrder], listed: Sequence[OrderReport], *, untouched_since: datetime
) -> tuple[list[Action], list[Difference]]:
    """Compare our open orders with the exchange's list of open orders.

    Orders touched after `untouched_since` wait for the next run, because a list may lag behind the
    matching engine.
    """
    actions: list[Action] = []
    differences: list[Difference] = []
    by_client_id = {order.client_order_id: order for order in ours}
    by_exchange_id = {
        (order.symbol, order.exchange_order_id): order for order in ours if order.exchange_order_id
    }
    seen: set[str] = set()
    for report in listed:
        order = by_client_id.get(report.client_order_id) or by_exchange_id.get(
            (report.symbol, report.exchange_order_id)
        )
        if order is None:
            actions.append(Action(Step.ADOPT, report.client_order_id, report))
            continue
        seen.add(order.client_order_id)
        is_stable = order.touched_at < untouched_since
        if _is_newer(report, order):
            actions.append(Action(Step.APPLY, order.client_order_id, report))
        elif is_stable and order.fills_quantity < order.filled_quantity:
            actions.append(Action(Step.FETCH_FILLS, order.client_order_id))
        differences += _different_order(order, report, is_stable=is_stable)
    actions += [
        Action(Step.ASK, order.client_order_id)
        for order in ours
        if order.client_order_id not in seen and order.touched_at < untouched_since
    ]
    return actions, differences


def _is_newer(report: OrderReport, order: OurOrder) -> bool:
    return (
        report.status not in STAGE
        or STAGE[report.status] > STAGE.get(order.exchange_status, 0)
        or report.filled_quantity > order.filled_quantity
        or not order.exchange_order_id
    )


def _different_order(order: OurOrder, report: OrderReport, *, is_stable: bool) -> list[Difference]:
    """Compare the terms of an order. `is_stable`: no message about it arrived for so long that the
    list can't just be older than our row.
    """
    details: dict[str, str] = {}
    if order.side is not report.side:
        details["side"] = f"ours {order.side}, theirs {report.side}"
    if order.quantity is not None and report.quantity != order.quantity:
        details["quantity"] = f"ours {plain(order.quantity)}, theirs {plain(report.quantity)}"
    if order.price is not None and report.price != order.price:
        details["price"] = f"ours {plain(order.price)}, theirs {plain(report.price)}"
    if is_stable and report.filled_quantity < order.filled_quantity:
        ours, theirs = plain(order.filled_quantity), plain(report.filled_quantity)
        details["filled"] = f"ours {ours}, theirs {theirs}"
    if is_stable and STAGE.get(report.status, 9) < STAGE.get(order.exchange_status, 0):
        details["status"] = f"ours {order.exchange_status}, theirs {report.status}"
    return [Difference("DIFFERENT_ORDER", order.client_order_id, details)] if details else []


def locked_by(
    orders: Iterable[OrderReport], assets: Mapping[str, tuple[str, str]]
) -> dict[str, Decimal] | None:
    """Return the amounts that open orders lock, by asset. `assets` gives (base, quote) by symbol.

    None if that can't be computed: an order has an unknown symbol, has the market's price, or
    belongs to an order list, whose legs lock the same amount once, or nothing yet.
    """
    locked: dict[str, Decimal] = {}
    for order in orders:
        if order.symbol not in assets or order.raw.get("orderListId", -1) != -1:
            return None
        base, quote = assets[order.symbol]
        rest = EXACT.subtract(order.quantity, order.filled_quantity)
        if order.side is Side.SELL:
            asset, amount = base, rest
        elif order.price > 0:
            asset, amount = quote, EXACT.multiply(rest, order.price)
        else:
            return None
        locked[asset] = EXACT.add(locked.get(asset, Decimal(0)), amount)
    return locked


def compare_locked(
    balances: Sequence[BalanceReport], locked: Mapping[str, Decimal], *, tolerance: Decimal
) -> list[Difference]:
    """Compare locked balances with the amounts that the open orders of the same moment lock."""
    differences = []
    reported = {row.asset: row.locked for row in balances}
    for asset in sorted({*locked, *(asset for asset, amount in reported.items() if amount > 0)}):
        ours, theirs = locked.get(asset, Decimal(0)), reported.get(asset, Decimal(0))
        if abs(EXACT.subtract(ours, theirs)) > tolerance:
            details = {"by open orders": plain(ours), "by the exchange": plain(theirs)}
            differences.append(Difference("BALANCE_MISMATCH", asset, details))
    return differences


def looks_reset(*, ours: int, unlisted: int, asked: int, missing: int) -> bool:
    """Return True if the exchange was probably reset, so that no order's fate is proven.

    It lists none of our open orders and knows none of those that it was queried for. A sample is
    enough: thousands of queries would take minutes.
    """
    return (
        ours >= RESET_FROM
        and unlisted == ours
        and missing == asked
        and missing >= min(ours, RESET_SAMPLE)
    )
