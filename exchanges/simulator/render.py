"""Orders, trades and accounts as the documented JSON.

`unit` divides microseconds into the time unit that was asked for: 1000 for milliseconds, 1 for microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exchanges.simulator.model import (
    NO_ID,
    SCALE,
    STOP_TYPES,
    Account,
    Cancellation,
    Commission,
    ExpiryReason,
    Order,
    OrderState,
    Placement,
    PreventedMatch,
    Rates,
    Trade,
    text,
)

Row = dict[str, Any]
MILLISECONDS = 1000
MICROSECONDS = 1


def placement_ack(placement: Placement, unit: int) -> Row:
    order = placement.order
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.order_list_id,
        "clientOrderId": order.client_order_id,
        "transactTime": placement.state.at // unit,
    }


def placement_result(placement: Placement, unit: int) -> Row:
    order, state = placement.order, placement.state
    row = placement_ack(placement, unit)
    row |= _progress(order, state)
    row |= _conditional(order, unit, state)
    row["workingTime"] = NO_ID if state.working_at is None else state.working_at // unit
    row["selfTradePreventionMode"] = order.stp_mode.value
    if placement.prevented_matches:
        row["preventedMatches"] = [_prevented_in_placement(match) for match in placement.prevented_matches]
        if order.account.trade_group_id != NO_ID:
            row["tradeGroupId"] = order.account.trade_group_id
    return row


def placement_full(placement: Placement, unit: int) -> Row:
    row = placement_result(placement, unit)
    row["fills"] = [
        {
            "price": text(fill.price),
            "qty": text(fill.quantity),
            "commission": text(fill.commission),
            "commissionAsset": fill.commission_asset,
            "tradeId": fill.trade_id,
        }
        for fill in placement.fills
    ]
    return row


def _progress(order: Order, state: OrderState) -> Row:
    return {
        "price": text(order.price),
        "origQty": text(order.quantity),
        "executedQty": text(state.executed_quantity),
        "origQuoteOrderQty": text(order.quote_quantity),
        "cummulativeQuoteQty": text(state.executed_quote),
        "status": state.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
    }


def _conditional(order: Order, unit: int, state: OrderState) -> Row:
    """Fields of order answers that appear only when due."""
    row: Row = {}
    if order.order_type in STOP_TYPES:
        row["stopPrice"] = text(order.stop_price)
    if order.iceberg_quantity:
        row["icebergQty"] = text(order.iceberg_quantity)
    if order.trailing_delta is not None:
        row["trailingDelta"] = order.trailing_delta
        row["trailingTime"] = NO_ID if state.trailing_at is None else state.trailing_at // unit
    if order.strategy_id is not None:
        row["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        row["strategyType"] = order.strategy_type
    if state.prevented_match_id is not None:
        row["preventedMatchId"] = state.prevented_match_id
        row["preventedQuantity"] = text(state.prevented_quantity)
    if state.expiry_reason is not ExpiryReason.NONE:
        row["expiryReason"] = state.expiry_reason.value
    return row


def _prevented_in_placement(match: PreventedMatch) -> Row:
    row: Row = {
        "preventedMatchId": match.prevented_match_id,
        "makerOrderId": match.maker_order_id,
        "price": text(match.price),
    }
    if match.taker_prevented_quantity is not None:
        row["takerPreventedQuantity"] = text(match.taker_prevented_quantity)
    if match.maker_prevented_quantity is not None:
        row["makerPreventedQuantity"] = text(match.maker_prevented_quantity)
    return row


def order_row(order: Order, state: OrderState, unit: int) -> Row:
    """An order as queries show it: stopPrice and icebergQty always, the rest of the conditional fields when due."""
    row: Row = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.order_list_id,
        "clientOrderId": order.client_order_id,
        "price": text(order.price),
        "origQty": text(order.quantity),
        "executedQty": text(state.executed_quantity),
        "cummulativeQuoteQty": text(state.executed_quote),
        "status": state.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
        "stopPrice": text(order.stop_price),
        "icebergQty": text(order.iceberg_quantity),
        "time": order.created_at // unit,
        "updateTime": state.at // unit,
        "isWorking": state.is_working,
        "workingTime": NO_ID if state.working_at is None else state.working_at // unit,
        "origQuoteOrderQty": text(order.quote_quantity),
        "selfTradePreventionMode": order.stp_mode.value,
    }
    return row | _conditional(order, unit, state) | {"stopPrice": row["stopPrice"]}


def cancel_row(cancellation: Cancellation, state: OrderState, unit: int) -> Row:
    order = cancellation.order
    row: Row = {
        "symbol": order.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": order.order_list_id,
        "clientOrderId": cancellation.client_order_id,
        "transactTime": cancellation.transact_time // unit,
    }
    row |= _progress(order, state)
    row |= _conditional(order, unit, state)
    row["selfTradePreventionMode"] = order.stp_mode.value
    return row


def trade_row(trade: Trade, unit: int) -> Row:
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "orderListId": NO_ID,
        "price": text(trade.price),
        "qty": text(trade.quantity),
        "quoteQty": text(trade.quote_quantity),
        "commission": text(trade.commission),
        "commissionAsset": trade.commission_asset,
        "time": trade.time // unit,
        "isBuyer": trade.side.value == "BUY",
        "isMaker": trade.is_maker,
        "isBestMatch": True,
    }


def prevented_match_row(match: PreventedMatch, unit: int) -> Row:
    row: Row = {
        "symbol": match.symbol,
        "preventedMatchId": match.prevented_match_id,
        "takerOrderId": match.taker_order_id,
        "makerSymbol": match.symbol,
        "makerOrderId": match.maker_order_id,
        "tradeGroupId": match.trade_group_id,
        "selfTradePreventionMode": match.stp_mode.value,
        "price": text(match.price),
    }
    if match.taker_prevented_quantity is not None:
        row["takerPreventedQuantity"] = text(match.taker_prevented_quantity)
    if match.maker_prevented_quantity is not None:
        row["makerPreventedQuantity"] = text(match.maker_prevented_quantity)
    row["transactTime"] = match.time // unit
    return row


# ------------------------------------------------------------------------------------------- account


def account_row(account: Account, balances: Iterable[tuple[str, int, int]], unit: int) -> Row:
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
        "updateTime": account.updated_at // unit,
        "accountType": "SPOT",
        "balances": [{"asset": asset, "free": text(free), "locked": text(locked)} for asset, free, locked in balances],
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
