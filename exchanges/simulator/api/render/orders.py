"""Render orders and trades as the documented JSON.

`unit` divides microseconds into the requested time unit: 1000 for milliseconds, 1 for microseconds.
"""

from __future__ import annotations

from typing import Any

from exchanges.simulator.engine.enums import STOP_TYPES, ExpiryReason
from exchanges.simulator.engine.types import (
    NO_ID,
    Amendment,
    Cancellation,
    Order,
    OrderState,
    Placement,
    PreventedMatch,
    Trade,
    text,
)

Row = dict[str, Any]


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
        row["preventedMatches"] = [
            _prevented_in_placement(match) for match in placement.prevented_matches
        ]
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
        "origQty": text(state.quantity),
        "executedQty": text(state.executed_quantity),
        "origQuoteOrderQty": text(order.quote_quantity),
        "cummulativeQuoteQty": text(state.executed_quote),
        "status": state.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
    }


def _conditional(order: Order, unit: int, state: OrderState) -> Row:
    """Render the fields of order answers that appear only for some orders."""
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
    """Render an order as queries show it.

    stopPrice and icebergQty always appear, the other conditional fields only if they apply.
    """
    row: Row = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.order_list_id,
        "clientOrderId": state.client_order_id,
        "price": text(order.price),
        "origQty": text(state.quantity),
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


def amended_row(amendment: Amendment, state: OrderState, unit: int) -> Row:
    """Render the answer to an amendment. Some of its names differ from those of other answers."""
    order = amendment.order
    row: Row = {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.order_list_id,
        "origClientOrderId": amendment.orig_client_order_id,
        "clientOrderId": state.client_order_id,
        "price": text(order.price),
        "qty": text(state.quantity),
        "executedQty": text(state.executed_quantity),
        "preventedQty": text(state.prevented_quantity),
        "quoteOrderQty": text(order.quote_quantity),
        "cumulativeQuoteQty": text(state.executed_quote),
        "status": state.status.value,
        "timeInForce": order.time_in_force.value,
        "type": order.order_type.value,
        "side": order.side.value,
        **_conditional(order, unit, state),
        "workingTime": NO_ID if state.working_at is None else state.working_at // unit,
        "selfTradePreventionMode": order.stp_mode.value,
    }
    row.pop("preventedQuantity", None)
    return {
        "transactTime": amendment.transact_time // unit,
        "executionId": amendment.execution_id,
        "amendedOrder": row,
    }


def amendment_row(amendment: Amendment, unit: int) -> Row:
    return {
        "symbol": amendment.order.symbol,
        "orderId": amendment.order.order_id,
        "executionId": amendment.execution_id,
        "origClientOrderId": amendment.orig_client_order_id,
        "newClientOrderId": amendment.new_client_order_id,
        "origQty": text(amendment.orig_quantity),
        "newQty": text(amendment.new_quantity),
        "time": amendment.transact_time // unit,
    }


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
