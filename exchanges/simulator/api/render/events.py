"""Render user data stream events as the documented JSON."""

from __future__ import annotations

from typing import Any

from exchanges.simulator.engine.enums import ExecutionType, ExpiryReason, RejectReason
from exchanges.simulator.engine.events import (
    AccountPositionEvent,
    BalanceUpdateEvent,
    Event,
    ExecutionEvent,
    ExternalLockEvent,
    Prevention,
)
from exchanges.simulator.engine.types import NO_ID, text

Row = dict[str, Any]
ZERO = text(0)


def event_row(event: Event, now_us: int, unit: int) -> Row:
    """Render a user data stream event."""
    if isinstance(event, ExecutionEvent):
        return execution_report(event, now_us, unit)
    if isinstance(event, AccountPositionEvent):
        return {
            "e": "outboundAccountPosition",
            "E": now_us // unit,
            "u": event.time // unit,
            "B": [
                {"a": asset, "f": text(free), "l": text(locked)}
                for asset, free, locked in event.balances
            ],
        }
    if isinstance(event, BalanceUpdateEvent):
        return _delta_row("balanceUpdate", event, now_us, unit)
    return _delta_row("externalLockUpdate", event, now_us, unit)


def _delta_row(
    name: str, event: BalanceUpdateEvent | ExternalLockEvent, now_us: int, unit: int
) -> Row:
    return {
        "e": name,
        "E": now_us // unit,
        "a": event.asset,
        "d": text(event.delta),
        "T": event.time // unit,
    }


def execution_report(event: ExecutionEvent, now_us: int, unit: int) -> Row:
    order, state, trade = event.order, event.state, event.trade
    row: Row = {
        "e": "executionReport",
        "E": now_us // unit,
        "s": order.symbol,
        "c": event.client_order_id,
        "S": order.side.value,
        "o": order.order_type.value,
        "f": order.time_in_force.value,
        "q": text(state.quantity),
        "p": text(order.price),
        "P": text(order.stop_price),
        "F": text(order.iceberg_quantity),
        "g": order.order_list_id,
        "C": event.orig_client_order_id,
        "x": event.execution_type.value,
        "X": state.status.value,
        "r": RejectReason.NONE.value,
        "i": order.order_id,
        "l": text(trade.quantity) if trade else ZERO,
        "z": text(state.executed_quantity),
        "L": text(trade.price) if trade else ZERO,
        "n": text(trade.commission) if trade else "0",
        "N": trade.commission_asset if trade else None,
        "T": event.transact_time // unit,
        "t": trade.trade_id if trade else NO_ID,
        "I": event.execution_id,
        "w": event.on_book,
        "m": trade.is_maker if trade else False,
        "M": event.execution_type is ExecutionType.TRADE,
        "O": order.created_at // unit,
        "Z": text(state.executed_quote),
        "Y": text(trade.quote_quantity) if trade else ZERO,
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
    if event.prevention is not None:
        _add_prevention(row, event.prevention)


def _add_prevention(row: Row, prevention: Prevention) -> None:
    row["B"] = text(prevention.lost)
    row["pl"] = text(prevention.would_have_traded)
    row["pL"] = text(prevention.match.price)
    row["pY"] = text(prevention.quote_quantity)
    row["U"] = prevention.counter_order_id
    row["Cs"] = prevention.match.symbol
