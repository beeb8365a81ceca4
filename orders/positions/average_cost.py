"""Compute a holding from its trades by weighted average cost: quantity, cost, result. Pure.

The rule. There is one holding for each traded symbol: of its base asset, with amounts in its quote
asset, because no trade shows the value of one quote asset in another. `cost` is the price paid for
the present quantity.

- A buy adds its quantity, and the amount paid to the cost. A commission in the quote asset is part
  of that amount. One in the base asset reduces the quantity, so the rest has cost more.
- A sell reduces the cost by the average cost of the quantity sold. It realizes the amount received,
  less a commission in the quote asset, less that cost. A commission in the base asset leaves at its
  average cost and earns nothing.
- A sell of more than the holding leaves a negative quantity with a negative cost (the amount
  received for it): the asset came from a deposit, or was borrowed. Buying it back realizes the
  difference, by the same formula.
- A commission in a third asset (BNB) has no value in the quote asset that the trades alone could
  show, so it is summed separately.
- A result belongs to the UTC day of its trade. Besides the total, a holding has the result of the
  last day with a trade. A trade of an earlier day that arrives later counts in the total only.

Every amount has 18 decimals. Only the cost of a sold part is ever rounded, half even, and the
remainder stays in the cost of the rest: quantity and `cost - realized` are always exact, and
applying trades in parts gives the same as applying them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

from exchanges.types import EXACT, Side

ZERO = Decimal(0)
_LAST_DIGIT = Decimal("1e-18")


@dataclass(frozen=True, slots=True)
class Trade:
    """The part of a fill that a holding needs."""

    side: Side
    quantity: Decimal
    quote_quantity: Decimal
    commission: Decimal
    commission_asset: str
    traded_at: datetime
    trade_id: str

    def not_after(self, now: datetime) -> Trade:
        """Return the trade as of now at the latest. A day to come would hide all until then."""
        return self if self.traded_at <= now else replace(self, traded_at=now)


@dataclass(frozen=True, slots=True)
class Holding:
    """A quantity of `base_asset`, with amounts in `quote_asset`.

    `fees` has the commissions in third assets, by asset. `day` is the UTC day of the last trade,
    `day_realized` and `day_fees` are that day's part of `realized` and `fees`.
    """

    base_asset: str
    quote_asset: str
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    trades: int = 0
    day: date | None = None
    day_realized: Decimal = ZERO
    day_fees: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def average_cost(self) -> Decimal | None:
        """Return the cost of one unit, rounded to 18 decimals. None without a quantity."""
        if not self.quantity:
            return None
        return EXACT.divide(self.cost, self.quantity).quantize(_LAST_DIGIT, context=EXACT)

    def unrealized(self, price: Decimal) -> Decimal:
        """Return the result of selling all of it at `price`, before commissions."""
        return EXACT.subtract(EXACT.multiply(self.quantity, price), self.cost)


def apply_trades(holding: Holding, trades: Iterable[Trade]) -> Holding:
    """Return the holding after these trades, in the given order."""
    for trade in trades:
        holding = _apply_trade(holding, trade)
    return holding


def in_order(trades: Iterable[Trade]) -> list[Trade]:
    """Sort trades as the exchange executed them: by time, within a millisecond by number."""
    return sorted(trades, key=lambda trade: (trade.traded_at, _number(trade.trade_id)))


def _number(trade_id: str) -> tuple[int, str]:
    return (int(trade_id), "") if trade_id.isascii() and trade_id.isdigit() else (0, trade_id)


def _apply_trade(holding: Holding, trade: Trade) -> Holding:
    in_base = trade.commission if trade.commission_asset == holding.base_asset else ZERO
    in_quote = trade.commission if trade.commission_asset == holding.quote_asset else ZERO
    is_third = bool(trade.commission) and not in_base and not in_quote
    fees = {trade.commission_asset: trade.commission} if is_third else {}
    if trade.side is Side.BUY:
        quantity, paid = trade.quantity, EXACT.add(trade.quote_quantity, in_quote)
    else:
        quantity = EXACT.minus(trade.quantity)
        paid = EXACT.subtract(in_quote, trade.quote_quantity)
    counted = replace(holding, fees=_sum(holding.fees, fees), trades=holding.trades + 1)
    changed = change_quantity(counted, quantity, paid)
    after = deduct_base_fee(changed, in_base, is_buy=trade.side is Side.BUY)
    realized = EXACT.subtract(after.realized, holding.realized)
    return _add_to_day(after, trade.traded_at.date(), realized, fees)


def _add_to_day(
    holding: Holding, day: date, realized: Decimal, fees: Mapping[str, Decimal]
) -> Holding:
    if holding.day is not None and day < holding.day:
        return holding
    if holding.day == day:
        realized, fees = EXACT.add(holding.day_realized, realized), _sum(holding.day_fees, fees)
    return replace(holding, day=day, day_realized=realized, day_fees=fees)


def _sum(fees: Mapping[str, Decimal], more: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
    if not more:
        return fees
    added = {asset: EXACT.add(fees.get(asset, ZERO), amount) for asset, amount in more.items()}
    return {**fees, **added}


def change_quantity(holding: Holding, quantity: Decimal, paid: Decimal) -> Holding:
    """Add `quantity` for the price `paid`. Both are negative if it leaves and money comes in."""
    if not holding.quantity or holding.quantity.is_signed() == quantity.is_signed():
        return replace(
            holding,
            quantity=EXACT.add(holding.quantity, quantity),
            cost=EXACT.add(holding.cost, paid),
        )
    if abs(quantity) > abs(holding.quantity):
        # Through zero: first the part that closes, then the rest opens at the same price.
        closing = EXACT.minus(holding.quantity)
        for_closing = pro_rata(paid, closing, quantity)
        closed = change_quantity(holding, closing, for_closing)
        rest, for_rest = EXACT.subtract(quantity, closing), EXACT.subtract(paid, for_closing)
        return change_quantity(closed, rest, for_rest)
    cost = pro_rata(holding.cost, EXACT.minus(quantity), holding.quantity)
    return replace(
        holding,
        quantity=EXACT.add(holding.quantity, quantity),
        cost=EXACT.subtract(holding.cost, cost),
        realized=EXACT.subtract(holding.realized, EXACT.add(paid, cost)),
    )


def deduct_base_fee(holding: Holding, fee: Decimal, *, is_buy: bool) -> Holding:
    """Take a commission in the base asset: after a buy the rest costs more, after a sell it is
    lost at its average cost.
    """
    if not fee:
        return holding
    if is_buy and holding.quantity >= fee:
        return replace(holding, quantity=EXACT.subtract(holding.quantity, fee))
    return change_quantity(holding, EXACT.minus(fee), ZERO)


def pro_rata(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return `total * part / whole` to 18 decimals. Exactly `total` if the part is the whole."""
    if part == whole:
        return total
    return EXACT.divide(EXACT.multiply(total, part), whole).quantize(_LAST_DIGIT, context=EXACT)
