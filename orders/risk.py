"""The pre-trade checks: what must hold before an order may leave. Pure.

Each refusal has a stable code, and a text that holds both figures.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from exchanges.types import EXACT, InstrumentRules, OrderType, Side, TimeInForce, plain


@dataclass(frozen=True, slots=True)
class Denial:
    """Why an order may not leave."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """An order's type and figures: as requested, or quantised as the exchange will see them."""

    side: Side
    order_type: OrderType
    quantity: Decimal | None
    quote_quantity: Decimal | None
    price: Decimal | None
    stop_price: Decimal | None
    time_in_force: TimeInForce | None = None

    def spent(self, rules: InstrumentRules) -> tuple[str, Decimal | None]:
        """Asset and amount that this order may spend; the amount is None where the price is the market's."""
        if self.side is Side.SELL:
            return rules.base_asset, self.quantity
        if self.quote_quantity is not None:
            return rules.quote_asset, self.quote_quantity
        if self.price is not None and self.quantity is not None:
            return rules.quote_asset, EXACT.multiply(self.price, self.quantity)
        return rules.quote_asset, None


@dataclass(frozen=True, slots=True)
class AccountStanding:
    """What the account may do now."""

    is_enabled: bool
    trading_state: str
    trading_state_reason: str
    everything_halted: bool
    halt_reason: str


def check_standing(standing: AccountStanding, side: Side) -> Denial | None:
    """Is the account allowed to trade at all?"""
    if standing.everything_halted:
        return Denial("HALTED", f"all trading is halted: {standing.halt_reason}")
    if not standing.is_enabled:
        return Denial("ACCOUNT_DISABLED", "the account is disabled")
    if standing.trading_state == "HALTED":
        return Denial("HALTED", f"the account is halted: {standing.trading_state_reason}")
    if standing.trading_state == "REDUCING" and side is Side.BUY:
        return Denial("REDUCING", f"a buy lowers no position, and {_only_reducing(standing)}")
    return None


def check_reducing(standing: AccountStanding, rules: InstrumentRules, money: Collection[str]) -> Denial | None:
    """While the account is REDUCING: does the order lower a position, and raise none?

    A position is what the account holds of an asset that is no money, however it came in: bought here, elsewhere, or
    deposited. Spot knows no short: a sale lowers it, up to all that is held (of more, `check_balance` says so), and a
    buy never does (`check_standing`). A sale for another asset that is no money, say on ETHBTC, takes up a position in
    that one: one risk for another, and refused. `money` names the assets that are money (`MONEY_ASSETS`).
    """
    if standing.trading_state != "REDUCING" or rules.quote_asset in money:
        return None
    text = f"a sale on {rules.symbol} takes up {rules.quote_asset}, which is none of {', '.join(sorted(money))}"
    return Denial("REDUCING", f"{text}, and {_only_reducing(standing)}")


def _only_reducing(standing: AccountStanding) -> str:
    return f"the account may only reduce: {standing.trading_state_reason}"


def check_instrument(rules: InstrumentRules | None, symbol: str, figures: Figures) -> Denial | None:
    """Is the instrument known, trading, and does it take this type of order?"""
    if rules is None:
        return Denial("UNKNOWN_INSTRUMENT", f"{symbol} is not known for this account's exchange")
    if not rules.is_trading and not rules.is_paused:  # what is paused goes on: its orders wait for that
        return Denial("INSTRUMENT_NOT_TRADING", f"{symbol} has status {rules.status}")
    if rules.order_types and figures.order_type not in rules.order_types:
        return Denial("ORDER_TYPE_NOT_SUPPORTED", f"{symbol} does not take {figures.order_type}")
    if figures.quote_quantity is not None and not rules.quote_order_quantity_allowed:
        return Denial("ORDER_TYPE_NOT_SUPPORTED", f"{symbol} does not take MARKET orders by quote quantity")
    return None


def quantise(rules: InstrumentRules, figures: Figures) -> Figures:
    """Figures on the exchange's grid: quantity down to the step, prices to the tick, never to a worse one for us."""
    is_market = figures.order_type is OrderType.MARKET
    return Figures(
        side=figures.side,
        order_type=figures.order_type,
        quantity=None if figures.quantity is None else rules.quantise_quantity(figures.quantity, is_market=is_market),
        quote_quantity=None
        if figures.quote_quantity is None
        else rules.quantise_quote_quantity(figures.quote_quantity),
        price=None if figures.price is None else rules.quantise_price(figures.price, figures.side),
        stop_price=None if figures.stop_price is None else rules.quantise_price(figures.stop_price, figures.side),
        time_in_force=figures.time_in_force,
    )


def check_figures(
    rules: InstrumentRules, requested: Figures, quantised: Figures, last_price: Decimal | None = None
) -> Denial | None:
    """Do the quantised figures pass the instrument's filters?

    Those that go by the market's price go by the last trade's, where that is known. Those that count what is open or
    held (MAX_NUM_ORDERS, MAX_NUM_ALGO_ORDERS, MAX_POSITION) are left to the exchange, who alone knows it for certain.
    """
    for name in ("quantity", "quote_quantity", "price", "stop_price"):
        value = getattr(quantised, name)
        if value is not None and value <= 0:
            asked = plain(getattr(requested, name))
            return Denial("ROUNDS_TO_ZERO", f"{name} {asked} becomes zero on the exchange's grid")
    violation = rules.check(
        side=quantised.side,
        order_type=quantised.order_type,
        quantity=quantised.quantity,
        quote_quantity=quantised.quote_quantity,
        price=quantised.price,
        stop_price=quantised.stop_price,
        reference_price=last_price,
    )
    return Denial(violation.code, violation.text) if violation else None


def check_balance(
    rules: InstrumentRules, quantised: Figures, free: Decimal, estimate: Decimal | None = None
) -> Denial | None:
    """Is the free balance enough for what the order may spend? `estimate` is for one whose price is the market's."""
    asset, amount = quantised.spent(rules)
    amount = estimate if amount is None else amount
    if amount is not None and amount > free:
        return Denial("INSUFFICIENT_BALANCE", f"needs {plain(amount)} {asset}, free are {plain(free)} {asset}")
    return None
