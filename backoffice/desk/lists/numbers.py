"""Write prices, quantities and money the way the instrument trades them. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

from exchanges.instrument_rules import InstrumentRules
from exchanges.types import EXACT, Side, plain

MONEY_DECIMALS = 2


@dataclass(frozen=True, slots=True)
class Grid:
    """Decimals of an instrument's prices, quantities and quote amounts. None keeps every digit."""

    price: int | None = None
    quantity: int | None = None
    money: int | None = None
    quote_asset: str = ""

    def price_text(self, value: Decimal) -> str:
        """Write an average, last or exchange price to the tick."""
        return rounded(value, self.price)

    def limit_price_text(self, value: Decimal, side: str) -> str:
        """Write the price of an order to the tick that was sent: a buy down, a sell up."""
        rounding = ROUND_FLOOR if side == Side.BUY else ROUND_CEILING
        return rounded(value, self.price, rounding)

    def quantity_text(self, value: Decimal) -> str:
        """Write a quantity to the step. Orders are sent rounded down, so this rounds down too."""
        return rounded(value, self.quantity, ROUND_DOWN)

    def money_text(self, value: Decimal) -> str:
        """Write an amount of the quote asset."""
        return rounded(value, self.money)


UNKNOWN = Grid()


def grid_of(rules: InstrumentRules, *, money_assets: frozenset[str]) -> Grid:
    """Return the grid of an instrument.

    Amounts of a money asset (USDT, EUR) have two decimals. Two decimals of bitcoin would hide a
    thousand dollars, so other quote assets get the precision that the exchange uses for them.
    """
    is_money = rules.quote_asset in money_assets
    return Grid(
        price=decimals_of(rules.figure("PRICE_FILTER", "tickSize")),
        quantity=decimals_of(rules.figure("LOT_SIZE", "stepSize")),
        money=MONEY_DECIMALS if is_money else rules.quote_precision,
        quote_asset=rules.quote_asset,
    )


def decimals_of(step: Decimal) -> int | None:
    """Count the decimals of a step: 0.0100 has 2, 5 has 0. A step of zero is no rule: None."""
    if not step:
        return None
    _whole, _point, fraction = plain(step).partition(".")
    return len(fraction)


def rounded(value: Decimal, decimals: int | None, rounding: str = ROUND_HALF_EVEN) -> str:
    """Return the value with so many decimals, without exponent or thousands separator.

    A value other than zero that would round to zero keeps all its digits: a person must see that
    something is there.
    """
    if decimals is None:
        return plain(value)
    short = value.quantize(Decimal(1).scaleb(-decimals), rounding=rounding, context=EXACT)
    if not short:
        return plain(value) if value else f"{abs(short):f}"
    return f"{short:f}"
