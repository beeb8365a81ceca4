"""Check an order against its account, its instrument and its balance before it may leave.

Pure. Each denial has a stable code, and a text that names both the order's value and the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from exchanges.instrument_rules import InstrumentRules
from exchanges.types import OrderType, Side, plain
from orders.amounts import AMOUNTS, OrderAmounts


@dataclass(frozen=True, slots=True)
class Denial:
    """Why an order may not leave."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class TradingPermission:
    """The account's permission to trade now, with the reason if it has none."""

    is_enabled: bool
    trading_state: str
    trading_state_reason: str
    everything_halted: bool
    halt_reason: str
    scoped_halt: str = ""


def check_permission(permission: TradingPermission, side: Side) -> Denial | None:
    """Check that the account is allowed to trade at all."""
    if permission.everything_halted:
        return Denial("HALTED", f"all trading is halted: {permission.halt_reason}")
    if not permission.is_enabled:
        return Denial("ACCOUNT_DISABLED", "the account is disabled")
    if permission.trading_state == "HALTED":
        return Denial("HALTED", f"the account is halted: {permission.trading_state_reason}")
    if permission.scoped_halt:
        return Denial("HALTED", permission.scoped_halt)
    if permission.trading_state == "REDUCING" and side is Side.BUY:
        return Denial(
            "REDUCING", f"a buy doesn't reduce a position, and {_reduce_only(permission)}"
        )
    return None


def check_duties(ages: Mapping[str, float], longest: float) -> Denial | None:
    """Check that the duties that protect the account have run within so many seconds."""
    for duty, age in ages.items():
        if age > longest:
            text = f"the {duty} of the account did not run for {age:.0f} s"
            return Denial("DUTY_STANDS_STILL", f"{text}, at most {longest:g} s are allowed")
    return None


def check_reducing(
    permission: TradingPermission, rules: InstrumentRules, *, in_money: bool
) -> Denial | None:
    """Check that an order of a reduce-only account lowers a position and raises none.

    A position is the account's balance of an asset that is not money, whether it was bought here
    or elsewhere, or deposited. Spot has no short positions: a sale lowers the position, up to the
    whole balance (`check_balance` denies more), and a buy never does (`check_permission`). A sale
    for another asset that is not money, say on ETHBTC, exchanges one risk for another, so it is
    denied. `in_money` says whether the symbol's quote asset is money.
    """
    if permission.trading_state != "REDUCING" or in_money:
        return None
    text = f"a sale on {rules.symbol} buys {rules.quote_asset}, which isn't money"
    return Denial("REDUCING", f"{text}, and {_reduce_only(permission)}")


def _reduce_only(permission: TradingPermission) -> str:
    return f"the account is reduce-only: {permission.trading_state_reason}"


def check_instrument(
    rules: InstrumentRules | None, symbol: str, amounts: OrderAmounts
) -> Denial | None:
    """Check that the instrument is known and trading, and accepts this type of order."""
    if rules is None:
        return Denial("UNKNOWN_INSTRUMENT", f"{symbol} is not known for this account's exchange")
    # An order on a paused symbol waits until the symbol trades again.
    if not rules.is_trading and not rules.is_paused:
        return Denial("INSTRUMENT_NOT_TRADING", f"{symbol} has status {rules.status}")
    if rules.order_types and amounts.order_type not in rules.order_types:
        return Denial(
            "ORDER_TYPE_NOT_SUPPORTED", f"{symbol} doesn't accept {amounts.order_type} orders"
        )
    if amounts.quote_quantity is not None and not rules.quote_order_quantity_allowed:
        return Denial(
            "ORDER_TYPE_NOT_SUPPORTED", f"{symbol} doesn't accept MARKET orders by quote quantity"
        )
    return None


def quantize(rules: InstrumentRules, amounts: OrderAmounts) -> OrderAmounts:
    """Return the amounts on the exchange's grid.

    Quantities go down to the step, and prices to the tick that is not worse for us.
    """
    is_market = amounts.order_type is OrderType.MARKET
    side, given = amounts.side, amounts.given
    for name, value in given.items():
        if name == "quantity":
            given[name] = rules.quantize_quantity(value, is_market=is_market)
        elif name == "quote_quantity":
            given[name] = rules.quantize_quote_quantity(value)
        else:
            given[name] = rules.quantize_price(value, side)
    return replace(amounts, **given)  # type: ignore[arg-type]


def check_filters(
    rules: InstrumentRules,
    requested: OrderAmounts,
    quantized: OrderAmounts,
    last_price: Decimal | None = None,
) -> Denial | None:
    """Check the quantized amounts against the instrument's filters.

    Filters that depend on the market's price use the last trade's price if it is known. Filters
    that count open orders or balances (MAX_NUM_ORDERS, MAX_NUM_ALGO_ORDERS, MAX_POSITION) are left
    to the exchange, because only the exchange knows those for certain.
    """
    for name in AMOUNTS:
        value = getattr(quantized, name)
        if value is not None and value <= 0:
            asked = plain(getattr(requested, name))
            return Denial("ROUNDS_TO_ZERO", f"{name} {asked} rounds to zero on the exchange's grid")
    violation = rules.check(
        side=quantized.side,
        order_type=quantized.order_type,
        **quantized.by_name,
        reference_price=last_price,
    )
    return Denial(violation.code, violation.text) if violation else None


def check_balance(
    rules: InstrumentRules,
    quantized: OrderAmounts,
    free: Decimal,
    estimate: Decimal | None = None,
) -> Denial | None:
    """Check that the free balance covers the most that the order can spend.

    `estimate` is the spending of an order whose price is the market's.
    """
    asset, amount = quantized.spent(rules)
    amount = estimate if amount is None else amount
    if amount is not None and amount > free:
        return Denial(
            "INSUFFICIENT_BALANCE",
            f"needs {plain(amount)} {asset}, but only {plain(free)} {asset} is free",
        )
    return None
