"""Describe the events that the engine publishes to the owner of an account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from exchanges.simulator.engine.enums import ExecutionType
from exchanges.simulator.engine.types import SCALE, Order, OrderState, PreventedMatch, Trade


@dataclass(frozen=True, slots=True, kw_only=True)
class Prevention:
    """Describe the effect of self-trade prevention on one order.

    `lost` is the quantity that the order lost, `would_have_traded` the quantity that would have
    traded at the price of the match.
    """

    match: PreventedMatch
    counter_order_id: int
    lost: int
    would_have_traded: int

    @property
    def quote_quantity(self) -> int:
        return self.match.price * self.would_have_traded // SCALE


class ExecutionEvent(NamedTuple):
    """Carry the content of an `executionReport`.

    The fixed fields are read from `order`. `state` has the changing ones, as they were at that
    moment. `client_order_id` and `orig_client_order_id` are the fields `c` and `C`.

    A named tuple, like the other values that every placement makes: a frozen dataclass takes three
    times as long to build.
    """

    account_id: str
    order: Order
    execution_type: ExecutionType
    execution_id: int
    transact_time: int
    state: OrderState
    client_order_id: str
    orig_client_order_id: str
    on_book: bool
    trade: Trade | None
    prevention: Prevention | None


class AccountPositionEvent(NamedTuple):
    """Carry an `outboundAccountPosition`: (asset, free, locked) of the assets that changed."""

    account_id: str
    time: int
    balances: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceUpdateEvent:
    """Carry a `balanceUpdate`: a deposit (positive) or a withdrawal (negative)."""

    account_id: str
    asset: str
    delta: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalLockEvent:
    """Carry an `externalLockUpdate`: positive when locked, negative when released."""

    account_id: str
    asset: str
    delta: int
    time: int


Event = ExecutionEvent | AccountPositionEvent | BalanceUpdateEvent | ExternalLockEvent
