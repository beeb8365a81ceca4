"""Decide whether an order must wait for a second person. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from exchanges.types import plain
from orders.amounts import OrderAmounts
from orders.gate.limits import LastTrade, notional_of


@dataclass(frozen=True, slots=True)
class ReviewThreshold:
    """A rule that applies to the order's account, symbol and strategy. None: every order."""

    rule_id: int
    notional_above: Decimal | None


def review_reason(
    rules: Sequence[ReviewThreshold], amounts: OrderAmounts, last: LastTrade | None
) -> str:
    """Return why the order waits for a second person, or an empty text.

    An order whose value is unknown waits, because it may be above the threshold.
    """
    value = notional_of(amounts, last) if rules else None
    for rule in rules:
        if rule.notional_above is None:
            return f"rule {rule.rule_id} asks for a second person"
        if value is None:
            return f"rule {rule.rule_id}: the order's value is unknown"
        if value > rule.notional_above:
            return f"rule {rule.rule_id}: {plain(value)} is above {plain(rule.notional_above)}"
    return ""
