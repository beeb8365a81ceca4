"""User data stream events as the documented JSON."""

from __future__ import annotations

from typing import Any

from exchanges.simulator.model import (
    AccountPositionEvent,
    BalanceUpdateEvent,
    Event,
    ExecutionEvent,
    ExecutionType,
    ExpiryReason,
    ExternalLockEvent,
    text,
)

Row = dict[str, Any]


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
