"""Judge how good an order was: slippage against its arrival price, and fees, in basis points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from backoffice.desk.lists.columns import price_source
from backoffice.desk.order_page.fill_sums import FillSums
from exchanges.types import EXACT, Side
from orders.models import ExchangeOrder, Order, Position
from orders.positions.store import amounts

BPS = Decimal(10_000)
_TENTH = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Quality:
    """None is unknown, never zero. `slippage_bps` is positive if the price was worse for us.

    `arrival_source` names the source of the arrival price for people.
    `unpriced` names assets in which a commission was paid and for which no price is known.
    """

    arrival_price: Decimal | None = None
    arrival_age: timedelta | None = None
    arrival_source: str = ""
    slippage_bps: Decimal | None = None
    fee_bps: Decimal | None = None
    fees: Mapping[str, Decimal] | None = None
    unpriced: tuple[str, ...] = ()


def quality_of(
    order: Order, quote_asset: str, attempts: Iterable[ExchangeOrder], fills: FillSums
) -> Quality:
    """Compute the quality of the fills that are recorded so far."""
    attempt = next((row for row in attempts if row.arrival_price is not None), None)
    arrival_price = attempt.arrival_price if attempt else None
    fees = fills.fees
    prices = _prices(order, quote_asset) if fees else {}
    unpriced = tuple(sorted(set(fees) - set(prices)))
    return Quality(
        arrival_price=arrival_price,
        arrival_age=_age(attempt),
        arrival_source=price_source(attempt.arrival_price_source) if attempt else "",
        slippage_bps=slippage(order, arrival_price),
        fee_bps=None if unpriced or not fills.count else fee_bps(order, fees, prices),
        fees=fees,
        unpriced=unpriced,
    )


def slippage(order: Order, arrival_price: Decimal | None) -> Decimal | None:
    """Return by how much the average price was worse than the arrival price."""
    if not arrival_price or not order.average_price:
        return None
    worse = EXACT.subtract(order.average_price, arrival_price)
    if order.side == Side.SELL:
        worse = EXACT.minus(worse)
    return _rounded(EXACT.divide(EXACT.multiply(worse, BPS), arrival_price))


def fee_bps(
    order: Order, fees: Mapping[str, Decimal], prices: Mapping[str, Decimal]
) -> Decimal | None:
    """Return the commissions in basis points of the traded value."""
    if not order.filled_quote_quantity:
        return None
    paid = Decimal(0)
    for asset, amount in fees.items():
        paid = EXACT.add(paid, EXACT.multiply(amount, prices[asset]))
    return _rounded(EXACT.divide(EXACT.multiply(paid, BPS), order.filled_quote_quantity))


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(_TENTH, context=EXACT)


def _age(attempt: ExchangeOrder | None) -> timedelta | None:
    if attempt is None or attempt.arrival_price_at is None or attempt.sent_at is None:
        return None
    return max(attempt.sent_at - attempt.arrival_price_at, timedelta())


def _prices(order: Order, quote_asset: str) -> dict[str, Decimal]:
    """Return the known prices in the quote asset: of a third asset the position's last one."""
    prices = {quote_asset: Decimal(1)}
    base_asset = order.symbol.removesuffix(quote_asset)
    if order.average_price and base_asset:
        prices[base_asset] = order.average_price
    position = Position.objects.filter(account=order.account_id, symbol=order.symbol).first()
    return {**(amounts(position.fee_prices) if position else {}), **prices}
