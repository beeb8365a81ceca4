"""Show the engine's state as plain data, for assertions about what really happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchanges.simulator.engine.account_store import AccountStore
from exchanges.simulator.engine.context import Context
from exchanges.simulator.engine.market import Market
from exchanges.simulator.engine.types import Account, Order, Trade, text


def snapshot(context: Context, markets: Mapping[str, Market]) -> dict[str, Any]:
    """Return orders and trades as far as the history reaches.

    `accepted` and `traded` count all orders and trades, also those that the history dropped.
    """
    return {
        "accounts": {account_id: _account(store) for account_id, store in context.stores.items()},
        "house": _balances(context.house),
        "fees": {asset: text(amount) for asset, amount in context.ledger.fees.items()},
        "issued": {asset: text(amount) for asset, amount in context.ledger.issued.items()},
        "symbols": {
            symbol: {"status": market.status.value, "last_price": text(market.history.last_price)}
            for symbol, market in markets.items()
        },
    }


def _account(store: AccountStore) -> dict[str, Any]:
    orders = [order for by_id in store.by_symbol.values() for order in by_id.values()]
    return {
        "accepted": store.accepted,
        "traded": store.traded,
        "accepted_by_client_order_id": dict(store.accepted_ids),
        "reused_client_order_ids": {
            name: count for name, count in store.accepted_ids.items() if count > 1
        },
        "balances": _balances(store.account),
        "orders": [_order(order) for order in orders],
        "trades": [_trade(trade) for trades in store.trades.values() for trade in trades],
    }


def _balances(account: Account) -> dict[str, dict[str, str]]:
    return {
        asset: {"free": text(balance.free), "locked": text(balance.locked)}
        for asset, balance in account.balances.items()
    }


def _order(order: Order) -> dict[str, Any]:
    return {
        "symbol": order.symbol,
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "side": order.side.value,
        "type": order.order_type.value,
        "time_in_force": order.time_in_force.value,
        "status": order.status.value,
        "quantity": text(order.quantity),
        "quote_quantity": text(order.quote_quantity),
        "price": text(order.price),
        "stop_price": text(order.stop_price),
        "executed_quantity": text(order.executed_quantity),
        "executed_quote": text(order.executed_quote),
        "prevented_quantity": text(order.prevented_quantity),
        "amendments": len(order.amendments),
        "archived": order.archived,
        "expiry_reason": order.expiry_reason.value,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
    }


def _trade(trade: Trade) -> dict[str, Any]:
    return {
        "symbol": trade.symbol,
        "trade_id": trade.trade_id,
        "order_id": trade.order_id,
        "client_order_id": trade.client_order_id,
        "side": trade.side.value,
        "price": text(trade.price),
        "quantity": text(trade.quantity),
        "quote_quantity": text(trade.quote_quantity),
        "commission": text(trade.commission),
        "commission_asset": trade.commission_asset,
        "is_maker": trade.is_maker,
        "time": trade.time,
    }
