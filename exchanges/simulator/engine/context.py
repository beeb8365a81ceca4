"""Share one engine's time, ledger, accounts and events among its markets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from exchanges.simulator.engine.account_store import AccountStore
from exchanges.simulator.engine.events import Event
from exchanges.simulator.engine.filters import OpenOrderCaps
from exchanges.simulator.engine.ledger import Ledger
from exchanges.simulator.engine.types import Account, Order, OrderState

_HISTORY = 64


@dataclass(slots=True, kw_only=True, eq=False)
class Context:
    """Hold the state that all markets share.

    The engine sets `now` (microseconds) once per call, so all of a call happens at one time.
    `convert` turns an amount of one asset into another by last prices.
    """

    ledger: Ledger
    house: Account
    exchange_caps: OpenOrderCaps
    new_client_order_id: Callable[[], str]
    convert: Callable[[str, str, int], int | None]
    journal_microseconds: int
    now: int = 0
    events: list[Event] = field(default_factory=list)
    stores: dict[str, AccountStore] = field(default_factory=dict)

    def flush(self) -> None:
        """Report the new balances to the accounts that the last step changed."""
        self.ledger.flush(self.now, self.events)

    def snapshot(self, order: Order) -> OrderState:
        """Return the order's current state and remember it for queries about the past."""
        # By position: this runs on every report, and keywords would double its time.
        state = OrderState(
            self.now,
            order.status,
            order.executed_quantity,
            order.executed_quote,
            order.prevented_quantity,
            order.prevented_match_id,
            order.is_working,
            order.working_at,
            order.trailing_at,
            order.expiry_reason,
            order.quantity,
            order.client_order_id,
        )
        order.updated_at = self.now
        history = order.history
        history.append(state)
        if len(history) > _HISTORY:
            self._prune(history)
        return state

    def _prune(self, history: list[OrderState]) -> None:
        horizon = self.now - self.journal_microseconds
        keep = next(
            (index for index, state in enumerate(history) if state.at > horizon), len(history)
        )
        del history[: max(0, keep - 1)]
