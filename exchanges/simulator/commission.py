"""What a fill costs its account."""

from __future__ import annotations

from exchanges.simulator.context import Context
from exchanges.simulator.model import SCALE, Balance, Order


def charge(
    context: Context, order: Order, asset: str, balance: Balance, received: int, is_maker: bool
) -> tuple[int, str]:
    """Take the commission of `received` and say how much it was, and of which asset.

    In the discount asset when the account wants that, has enough of it free and a price for it is known: the
    standard part reduced, special and tax in full. Otherwise out of what was received. Rounded down.
    """
    terms = order.account.commission_for(order.symbol)
    side = order.side
    standard = terms.standard.of(side, is_maker)
    extra = terms.special.of(side, is_maker) + terms.tax.of(side, is_maker)
    if terms.discount_enabled_for_account and terms.discount_enabled_for_symbol:
        discounted = (received * standard // SCALE) * terms.discount // SCALE + received * extra // SCALE
        fee = discounted if asset == terms.discount_asset else context.convert(asset, terms.discount_asset, discounted)
        held = order.account.balances.get(terms.discount_asset)
        if fee is not None and held is not None and held.free >= fee:
            context.ledger.touch(order.account, terms.discount_asset).free -= fee
            context.ledger.collect(terms.discount_asset, fee)
            return fee, terms.discount_asset
    fee = received * (standard + extra) // SCALE
    balance.free -= fee
    context.ledger.collect(asset, fee)
    return fee, asset
