"""Render accounts, balances and commissions as the documented JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exchanges.simulator.engine.types import SCALE, Account, Commission, Rates, text

Row = dict[str, Any]


def account_row(
    account: Account, balances: Iterable[tuple[str, int, int]], updated_at: int, unit: int
) -> Row:
    standard = account.commission.standard
    return {
        "makerCommission": _basis_points(standard.maker),
        "takerCommission": _basis_points(standard.taker),
        "buyerCommission": _basis_points(standard.buyer),
        "sellerCommission": _basis_points(standard.seller),
        "commissionRates": _rates(standard),
        "canTrade": account.can_trade,
        "canWithdraw": account.can_withdraw,
        "canDeposit": account.can_deposit,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": updated_at // unit,
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": text(free), "locked": text(locked)}
            for asset, free, locked in balances
        ],
        "permissions": list(account.permissions),
        "uid": account.uid,
    }


def _basis_points(rate: int) -> int:
    return rate * 10_000 // SCALE


def _rates(rates: Rates) -> Row:
    return {
        "maker": text(rates.maker),
        "taker": text(rates.taker),
        "buyer": text(rates.buyer),
        "seller": text(rates.seller),
    }


def commission_row(symbol: str, commission: Commission) -> Row:
    return {
        "symbol": symbol,
        "standardCommission": _rates(commission.standard),
        "specialCommission": _rates(commission.special),
        "taxCommission": _rates(commission.tax),
        "discount": _discount(commission),
    }


def test_commission_row(commission: Commission) -> Row:
    return {
        "standardCommissionForOrder": _order_rates(commission.standard),
        "specialCommissionForOrder": _order_rates(commission.special),
        "taxCommissionForOrder": _order_rates(commission.tax),
        "discount": _discount(commission),
    }


def _order_rates(rates: Rates) -> Row:
    return {"maker": text(rates.maker), "taker": text(rates.taker)}


def _discount(commission: Commission) -> Row:
    return {
        "enabledForAccount": commission.discount_enabled_for_account,
        "enabledForSymbol": commission.discount_enabled_for_symbol,
        "discountAsset": commission.discount_asset,
        "discount": text(commission.discount),
    }
