"""Compare the amount of each asset that the fills explain with the exchange's balance. Pure.

For each asset of an account:

    bought - sold - fees + difference = free + locked

An asset is bought as the base asset of a buy or as the quote asset of a sell, and sold the other
way around. The book has no opening balances, deposits or withdrawals, so the difference is the sum
of them. It also shows a fill that we missed, therefore it is never folded into another figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from exchanges.types import EXACT, Side

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Traded:
    """The sums of fills with the same assets, side and commission asset."""

    base_asset: str
    quote_asset: str
    side: Side
    quantity: Decimal
    quote_quantity: Decimal
    commission: Decimal
    commission_asset: str
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Held:
    """The exchange's amounts of an asset at one time, and our reservations in it."""

    free: Decimal
    locked: Decimal
    reserved: Decimal = ZERO
    as_of: datetime | None = None  # None: the exchange doesn't list the asset, so it is zero


@dataclass(slots=True)
class TieOut:
    """The figures of one asset. Without a balance (None) the difference is unknown."""

    asset: str
    bought: Decimal = ZERO
    sold: Decimal = ZERO
    fees: Decimal = ZERO
    last_at: datetime | None = None
    held: Held | None = None

    @property
    def explained(self) -> Decimal:
        """Return the amount that the fills alone would leave."""
        return EXACT.subtract(EXACT.subtract(self.bought, self.sold), self.fees)

    @property
    def total(self) -> Decimal | None:
        """Return free and locked together."""
        return None if self.held is None else EXACT.add(self.held.free, self.held.locked)

    @property
    def difference(self) -> Decimal | None:
        """Return the part of the balance that no fill explains. Negative: more should be there."""
        return None if self.total is None else EXACT.subtract(self.total, self.explained)

    @property
    def is_behind(self) -> bool:
        """Return whether a fill is newer than the balance, so the two can't be compared yet."""
        if self.held is None or self.held.as_of is None or self.last_at is None:
            return False
        return self.held.as_of < self.last_at

    @property
    def is_empty(self) -> bool:
        """Return whether the asset was never traded, and nothing of it is there."""
        return self.last_at is None and not (self.total or (self.held and self.held.reserved))


def tie_out(
    trades: Iterable[Traded], balances: Mapping[str, Held], *, if_unlisted: Held | None
) -> list[TieOut]:
    """Return the figures of each asset of one account, by name.

    `if_unlisted` stands for the balance of a traded asset that the exchange doesn't list: zero, or
    None if the balances were never read.
    """
    found: dict[str, TieOut] = {asset: TieOut(asset, held=held) for asset, held in balances.items()}

    def line(asset: str, at: datetime) -> TieOut:
        row = found.setdefault(asset, TieOut(asset, held=if_unlisted))
        row.last_at = at if row.last_at is None else max(row.last_at, at)
        return row

    for one in trades:
        base, quote = line(one.base_asset, one.last_at), line(one.quote_asset, one.last_at)
        if one.side is Side.BUY:
            base.bought = EXACT.add(base.bought, one.quantity)
            quote.sold = EXACT.add(quote.sold, one.quote_quantity)
        else:
            base.sold = EXACT.add(base.sold, one.quantity)
            quote.bought = EXACT.add(quote.bought, one.quote_quantity)
        if one.commission:
            fee = line(one.commission_asset, one.last_at)
            fee.fees = EXACT.add(fee.fees, one.commission)
    return [found[asset] for asset in sorted(found) if not found[asset].is_empty]
