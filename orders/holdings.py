"""A holding from its trades: how much of an asset, what it has cost, what was earned. Pure; weighted average cost.

The rule. A holding is kept for each traded symbol: of its base asset, in its quote asset, as no trade tells what one
quote asset is worth in another. `cost` is what the present quantity was paid for.

- A buy adds its quantity, and what was paid to the cost. A commission in the quote asset was paid, too; one in the base
  asset is taken off the quantity, so that the rest has cost more.
- A sell takes the average cost of what it takes away off the cost, and realises what was received, less a commission in
  the quote asset, less that cost. A commission in the base asset goes away at its average cost and earns nothing.
- A sell of more than is held leaves a negative quantity with a negative cost (what was received for it): what was sold
  was brought in by a deposit, or borrowed. Buying it back realises the difference, by the same formula.
- A commission in a third asset (BNB) cannot be told in the quote asset from the trades alone: it is added up apart.
- A result belongs to the UTC day of its trade. The result of the last day that had a trade is kept beside the whole; a
  trade of an earlier day that comes after it counts in the whole alone.

Every figure has 18 decimals; only the cost taken off is ever rounded, half even, and what is rounded away stays in the
cost of the rest: quantity and `cost - realised` are exact always, and a fold in parts equals the fold of the whole.
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
    """One fill, as far as a holding needs it."""

    side: Side
    quantity: Decimal
    quote_quantity: Decimal
    commission: Decimal
    commission_asset: str
    traded_at: datetime
    trade_id: str


@dataclass(frozen=True, slots=True)
class Holding:
    """Of `base_asset`, in figures of `quote_asset`. `fees` holds commissions in third assets, by asset.

    `day_realised` and `day_fees` are what `day`, the last with a trade, has added to `realised` and `fees`.
    """

    base_asset: str
    quote_asset: str
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    realised: Decimal = ZERO
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    trades: int = 0
    day: date | None = None
    day_realised: Decimal = ZERO
    day_fees: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def average_cost(self) -> Decimal | None:
        """Cost of one, rounded to 18 decimals; None where nothing is held."""
        if not self.quantity:
            return None
        return EXACT.divide(self.cost, self.quantity).quantize(_LAST_DIGIT, context=EXACT)

    def unrealised(self, price: Decimal) -> Decimal:
        """What selling all of it at `price` would realise, before commissions."""
        return EXACT.subtract(EXACT.multiply(self.quantity, price), self.cost)


def fold(holding: Holding, trades: Iterable[Trade]) -> Holding:
    """The holding after these trades, in the order given."""
    for trade in trades:
        holding = _after(holding, trade)
    return holding


def in_order(trades: Iterable[Trade]) -> list[Trade]:
    """As the exchange executed them: by time, trades of one millisecond by their number."""
    return sorted(trades, key=lambda trade: (trade.traded_at, _number(trade.trade_id)))


def _number(trade_id: str) -> tuple[int, str]:
    return (int(trade_id), "") if trade_id.isascii() and trade_id.isdigit() else (0, trade_id)


def _after(holding: Holding, trade: Trade) -> Holding:
    in_base = trade.commission if trade.commission_asset == holding.base_asset else ZERO
    in_quote = trade.commission if trade.commission_asset == holding.quote_asset else ZERO
    if trade.side is Side.BUY:
        moved, paid = trade.quantity, EXACT.add(trade.quote_quantity, in_quote)
    else:
        moved, paid = EXACT.minus(trade.quantity), EXACT.subtract(in_quote, trade.quote_quantity)
    apart = {} if not trade.commission or in_base or in_quote else {trade.commission_asset: trade.commission}
    counted = replace(holding, fees=_sum(holding.fees, apart), trades=holding.trades + 1)
    after = _charged(_moved(counted, moved, paid), in_base, is_buy=trade.side is Side.BUY)
    return _on_its_day(after, trade.traded_at.date(), EXACT.subtract(after.realised, holding.realised), apart)


def _on_its_day(holding: Holding, day: date, realised: Decimal, fees: Mapping[str, Decimal]) -> Holding:
    if holding.day is not None and day < holding.day:
        return holding
    if holding.day == day:
        realised, fees = EXACT.add(holding.day_realised, realised), _sum(holding.day_fees, fees)
    return replace(holding, day=day, day_realised=realised, day_fees=fees)


def _sum(fees: Mapping[str, Decimal], more: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
    if not more:
        return fees
    return {**fees, **{asset: EXACT.add(fees.get(asset, ZERO), amount) for asset, amount in more.items()}}


def _moved(holding: Holding, quantity: Decimal, paid: Decimal) -> Holding:
    """`quantity` comes in for `paid`; both negative: it goes out, and that much is received."""
    if not holding.quantity or holding.quantity.is_signed() == quantity.is_signed():
        return replace(holding, quantity=EXACT.add(holding.quantity, quantity), cost=EXACT.add(holding.cost, paid))
    if abs(quantity) > abs(holding.quantity):
        # Through zero: the part that closes, then the rest opens at the same price.
        closing = EXACT.minus(holding.quantity)
        for_closing = _share(paid, closing, quantity)
        closed = _moved(holding, closing, for_closing)
        return _moved(closed, EXACT.subtract(quantity, closing), EXACT.subtract(paid, for_closing))
    cost = _share(holding.cost, EXACT.minus(quantity), holding.quantity)
    return replace(
        holding,
        quantity=EXACT.add(holding.quantity, quantity),
        cost=EXACT.subtract(holding.cost, cost),
        realised=EXACT.subtract(holding.realised, EXACT.add(paid, cost)),
    )


def _charged(holding: Holding, in_base: Decimal, *, is_buy: bool) -> Holding:
    """A commission in the base asset: a buy's makes the rest dearer, a sell's is lost at its average cost."""
    if not in_base:
        return holding
    if is_buy and holding.quantity >= in_base:
        return replace(holding, quantity=EXACT.subtract(holding.quantity, in_base))
    return _moved(holding, EXACT.minus(in_base), ZERO)


def _share(total: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """`total * part / whole` to 18 decimals; all of it where the part is the whole."""
    if part == whole:
        return total
    return EXACT.divide(EXACT.multiply(total, part), whole).quantize(_LAST_DIGIT, context=EXACT)
