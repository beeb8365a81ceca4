"""Engine objects as the documented JSON.

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
    AccountPositionEvent,
    AggregateTrade,
    BalanceUpdateEvent,
    Bar,
    Cancellation,
    Commission,
    DayStats,
    Depth,
    Event,
    ExecutionEvent,
    ExecutionType,
    ExpiryReason,
    ExternalLockEvent,
    Order,
    OrderState,
    Placement,
    PreventedMatch,
    PublicTrade,
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


# -------------------------------------------------------------------------------------------- market


def depth_row(depth: Depth) -> Row:
    return {
        "lastUpdateId": depth.last_update_id,
        "bids": [[text(price), text(quantity)] for price, quantity in depth.bids],
        "asks": [[text(price), text(quantity)] for price, quantity in depth.asks],
    }


def public_trade_row(trade: PublicTrade, unit: int) -> Row:
    return {
        "id": trade.trade_id,
        "price": text(trade.price),
        "qty": text(trade.quantity),
        "quoteQty": text(trade.quote_quantity),
        "time": trade.time // unit,
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_row(trade: AggregateTrade, unit: int) -> Row:
    return {
        "a": trade.aggregate_id,
        "p": text(trade.price),
        "q": text(trade.quantity),
        "f": trade.first_trade_id,
        "l": trade.last_trade_id,
        "T": trade.time // unit,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def kline_row(bar: Bar, closes_at: int, unit: int) -> list[Any]:
    """`closes_at` is the last microsecond of the candle."""
    return [
        bar.opened_at // unit,
        text(bar.open),
        text(bar.high),
        text(bar.low),
        text(bar.close),
        text(bar.volume),
        closes_at // unit,
        text(bar.quote_volume),
        bar.trades,
        text(bar.taker_buy_volume),
        text(bar.taker_buy_quote_volume),
        "0",
    ]


def ticker_mini(symbol: str, stats: DayStats, unit: int) -> Row:
    return {
        "symbol": symbol,
        "openPrice": text(stats.open),
        "highPrice": text(stats.high),
        "lowPrice": text(stats.low),
        "lastPrice": text(stats.last),
        "volume": text(stats.volume),
        "quoteVolume": text(stats.quote_volume),
        "openTime": stats.opened_at // unit,
        "closeTime": stats.closed_at // unit,
        "firstId": stats.first_trade_id,
        "lastId": stats.last_trade_id,
        "count": stats.trades,
    }


def ticker_window(symbol: str, stats: DayStats, unit: int) -> Row:
    change = stats.last - stats.open
    weighted = stats.quote_volume * SCALE // stats.volume if stats.volume else stats.last
    return {
        "symbol": symbol,
        "priceChange": text(change),
        "priceChangePercent": _percent(change, stats.open),
        "weightedAvgPrice": text(weighted),
    } | ticker_mini(symbol, stats, unit)


Best = tuple[tuple[int, int] | None, tuple[int, int] | None]


def ticker_day(symbol: str, stats: DayStats, best: Best, unit: int) -> Row:
    row = ticker_window(symbol, stats, unit)
    head = {key: row.pop(key) for key in ("symbol", "priceChange", "priceChangePercent", "weightedAvgPrice")}
    book = book_ticker(symbol, best)
    del book["symbol"]
    return (
        head
        | {
            "prevClosePrice": text(stats.previous_close),
            "lastPrice": text(stats.last),
            "lastQty": text(stats.last_quantity),
        }
        | book
        | row
    )


def _percent(change: int, base: int) -> str:
    """A change in percent with three decimals, rounded half away from zero."""
    if not base:
        return "0.000"
    thousandths = (abs(change) * 200_000 + base) // (2 * base)
    sign = "-" if change < 0 and thousandths else ""
    return f"{sign}{thousandths // 1000}.{thousandths % 1000:03d}"


def book_ticker(symbol: str, best: Best) -> Row:
    bid, ask = best[0] or (0, 0), best[1] or (0, 0)
    return {
        "symbol": symbol,
        "bidPrice": text(bid[0]),
        "bidQty": text(bid[1]),
        "askPrice": text(ask[0]),
        "askQty": text(ask[1]),
    }


# -------------------------------------------------------------------------------------------- events


def event_row(event: Event, now_us: int, unit: int) -> Row:
    """A user data stream event."""
    if isinstance(event, ExecutionEvent):
        return execution_report(event, now_us, unit)
    if isinstance(event, AccountPositionEvent):
        return {
            "e": "outboundAccountPosition",
            "E": now_us // unit,
            "u": event.time // unit,
            "B": [{"a": asset, "f": text(free), "l": text(locked)} for asset, free, locked in event.balances],
        }
    if isinstance(event, BalanceUpdateEvent):
        return _delta_row("balanceUpdate", event, now_us, unit)
    return _delta_row("externalLockUpdate", event, now_us, unit)


def _delta_row(name: str, event: BalanceUpdateEvent | ExternalLockEvent, now_us: int, unit: int) -> Row:
    return {"e": name, "E": now_us // unit, "a": event.asset, "d": text(event.delta), "T": event.time // unit}


def execution_report(event: ExecutionEvent, now_us: int, unit: int) -> Row:
    order, state = event.order, event.state
    row: Row = {
        "e": "executionReport",
        "E": now_us // unit,
        "s": order.symbol,
        "c": event.client_order_id,
        "S": order.side.value,
        "o": order.order_type.value,
        "f": order.time_in_force.value,
        "q": text(order.quantity),
        "p": text(order.price),
        "P": text(order.stop_price),
        "F": text(order.iceberg_quantity),
        "g": order.order_list_id,
        "C": event.orig_client_order_id,
        "x": event.execution_type.value,
        "X": state.status.value,
        "r": event.reject_reason.value,
        "i": order.order_id,
        "l": text(event.last_quantity),
        "z": text(state.executed_quantity),
        "L": text(event.last_price),
        "n": text(event.commission) if event.commission_asset else "0",
        "N": event.commission_asset,
        "T": event.transact_time // unit,
        "t": event.trade_id,
        "I": event.execution_id,
        "w": event.on_book,
        "m": event.is_maker,
        "M": event.execution_type is ExecutionType.TRADE,
        "O": order.created_at // unit,
        "Z": text(state.executed_quote),
        "Y": text(event.last_quote),
        "Q": text(order.quote_quantity),
    }
    if state.working_at is not None:
        row["W"] = state.working_at // unit
    row["V"] = order.stp_mode.value
    _add_conditional(row, event, unit)
    return row


def _add_conditional(row: Row, event: ExecutionEvent, unit: int) -> None:
    order, state = event.order, event.state
    if order.trailing_delta is not None:
        row["d"] = order.trailing_delta
        if state.trailing_at is not None:
            row["D"] = state.trailing_at // unit
    if order.strategy_id is not None:
        row["j"] = order.strategy_id
    if order.strategy_type is not None:
        row["J"] = order.strategy_type
    if state.expiry_reason is not ExpiryReason.NONE:
        row["eR"] = state.expiry_reason.value
    if state.prevented_match_id is None:
        return
    row["v"] = state.prevented_match_id
    row["A"] = text(state.prevented_quantity)
    row["u"] = order.account.trade_group_id
    optional = {
        "B": event.last_prevented_quantity,
        "pl": event.prevented_execution_quantity,
        "pL": event.prevented_execution_price,
        "pY": event.prevented_execution_quote,
    }
    row |= {name: text(value) for name, value in optional.items() if value is not None}
    if event.counter_order_id is not None:
        row["U"] = event.counter_order_id
    if event.counter_symbol is not None:
        row["Cs"] = event.counter_symbol
