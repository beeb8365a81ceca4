"""What differs between our book and one reading of the exchange, and what to do about it. Pure: state in, actions out.

A failed question never gets here: the caller has complete answers or calls nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from exchanges.types import EXACT, BalanceReport, OrderReport, Side, plain
from orders.merge import STAGE


class Step(StrEnum):
    """What to do about one order."""

    APPLY = "apply"  # the exchange says something that we do not know yet
    ADOPT = "adopt"  # the exchange has an order that we have no row for
    ASK = "ask"  # we hold it open and the list lacks it: ask for it alone before any verdict
    FETCH_FILLS = "fetch_fills"  # both agree on what is filled, and our trades do not add up to it


@dataclass(frozen=True, slots=True)
class Held:
    """One attempt that we hold open, as far as a comparison needs it."""

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
    """One step; `key` is our client order id, `report` what the exchange said, where it said something."""

    step: Step
    key: str
    report: OrderReport | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that evidence cannot mend: becomes a break, one for each (kind, subject)."""

    kind: str
    subject: str
    details: Mapping[str, str]


def compare_open_orders(
    held: Sequence[Held], listed: Sequence[OrderReport], *, untouched_since: datetime
) -> tuple[list[Action], list[Difference]]:
    """Our open orders against the exchange's list of open orders.

    What was touched after `untouched_since` is left for the next run: a list may lag behind the engine.
    """
    actions: list[Action] = []
    differences: list[Difference] = []
    by_client_id = {order.client_order_id: order for order in held}
    by_exchange_id = {(order.symbol, order.exchange_order_id): order for order in held if order.exchange_order_id}
    seen: set[str] = set()
    for report in listed:
        order = by_client_id.get(report.client_order_id) or by_exchange_id.get(
            (report.symbol, report.exchange_order_id)
        )
        if order is None:
            actions.append(Action(Step.ADOPT, report.client_order_id, report))
            continue
        seen.add(order.client_order_id)
        is_settled = order.touched_at < untouched_since
        if _says_more(order, report):
            actions.append(Action(Step.APPLY, order.client_order_id, report))
        elif is_settled and order.fills_quantity < order.filled_quantity:
            actions.append(Action(Step.FETCH_FILLS, order.client_order_id))
        differences += _different_order(order, report, is_settled=is_settled)
    unseen = [order for order in held if order.client_order_id not in seen]
    actions += [Action(Step.ASK, order.client_order_id) for order in unseen if order.touched_at < untouched_since]
    return actions, differences


def _says_more(order: Held, report: OrderReport) -> bool:
    further = STAGE.get(report.status, 0) > STAGE.get(order.exchange_status, 0) or report.status not in STAGE
    return further or report.filled_quantity > order.filled_quantity or not order.exchange_order_id


def _different_order(order: Held, report: OrderReport, *, is_settled: bool) -> list[Difference]:
    """`is_settled`: nothing was heard of it for so long that the list cannot merely be older than what we know."""
    details: dict[str, str] = {}
    if order.side is not report.side:
        details["side"] = f"ours {order.side}, theirs {report.side}"
    if order.quantity is not None and report.quantity != order.quantity:
        details["quantity"] = f"ours {plain(order.quantity)}, theirs {plain(report.quantity)}"
    if order.price is not None and report.price != order.price:
        details["price"] = f"ours {plain(order.price)}, theirs {plain(report.price)}"
    if is_settled and report.filled_quantity < order.filled_quantity:
        details["filled"] = f"ours {plain(order.filled_quantity)}, theirs {plain(report.filled_quantity)}"
    if is_settled and STAGE.get(report.status, 9) < STAGE.get(order.exchange_status, 0):
        details["status"] = f"ours {order.exchange_status}, theirs {report.status}"
    return [Difference("DIFFERENT_ORDER", order.client_order_id, details)] if details else []


def locked_by(orders: Iterable[OrderReport], assets: Mapping[str, tuple[str, str]]) -> dict[str, Decimal] | None:
    """What open orders lock, by asset; `assets` gives (base, quote) by symbol.

    None where it cannot be told: an order of a symbol that we do not know, one that is priced by the market, or one
    of an order list, whose legs lock the same amount once, or nothing yet.
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
    """Locked balances against what the open orders of the same moment lock."""
    differences = []
    told = {row.asset: row.locked for row in balances}
    for asset in sorted({*locked, *(asset for asset, amount in told.items() if amount > 0)}):
        ours, theirs = locked.get(asset, Decimal(0)), told.get(asset, Decimal(0))
        if abs(EXACT.subtract(ours, theirs)) > tolerance:
            details = {"by open orders": plain(ours), "by the exchange": plain(theirs)}
            differences.append(Difference("BALANCE_MISMATCH", asset, details))
    return differences


WIPED_FROM = 2
WIPED_SAMPLE = 20


def looks_wiped(*, held: int, unlisted: int, asked: int, missing: int) -> bool:
    """The exchange lists none of the orders that we hold open, and knows none of those that it was asked for alone: it
    was reset, and no order's fate is proven. A sample is enough to stop for: thousands of questions would take minutes.
    """
    return held >= WIPED_FROM and unlisted == held and missing == asked and missing >= min(held, WIPED_SAMPLE)
