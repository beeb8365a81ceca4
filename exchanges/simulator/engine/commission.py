"""Charge the commission of a fill."""

from __future__ import annotations

from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.types import SCALE, Balance, Order


def charge(
    context: Context, order: Order, asset: str, balance: Balance, *, received: int, is_maker: bool
) -> tuple[int, str]:
    """Take the commission of `received` and return (amount, asset).

    The commission comes from the discount asset if the account chose that, has enough of it free,
    and its price is known: then only the standard commission is reduced. Otherwise it comes out of
    the received amount. All amounts are rounded down.
    """
    terms = order.account.commission_for(order.symbol)
    side = order.side
    standard = terms.standard.of(side, is_maker)
    extra = terms.special.of(side, is_maker) + terms.tax.of(side, is_maker)
    if terms.discount_enabled_for_account and terms.discount_enabled_for_symbol:
        discounted = (
            received * standard // SCALE
        ) * terms.discount // SCALE + received * extra // SCALE
        fee = (
            discounted
            if asset == terms.discount_asset
            else context.convert(asset, terms.discount_asset, discounted)
        )
        held = order.account.balances.get(terms.discount_asset)
        if fee is not None and held is not None and held.free >= fee:
            context.ledger.touch(order.account, terms.discount_asset).free -= fee
            context.ledger.collect(terms.discount_asset, fee)
            return fee, terms.discount_asset
    fee = received * (standard + extra) // SCALE
    balance.free -= fee
    context.ledger.collect(asset, fee)
    return fee, asset
