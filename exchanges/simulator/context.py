"""What all markets of one engine share: the clock's reading, the ledger, the accounts, the events."""

from __future__ import annotations

from collections.abc import Callable

from exchanges.simulator.accounts import AccountStore
from exchanges.simulator.filters import OpenOrderCaps
from exchanges.simulator.ledger import Ledger
from exchanges.simulator.model import Account, Event, Order, OrderState

_HISTORY = 64


class Context:
    """`now` is read once per call of the engine, so that one call happens at one time."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        house: Account,
        exchange_caps: OpenOrderCaps,
        new_client_order_id: Callable[[], str],
        convert: Callable[[str, str, int], int | None],
        journal_microseconds: int,
    ) -> None:
        self.now = 0
        self.events: list[Event] = []
        self.ledger = ledger
        self.house = house
        self.stores: dict[str, AccountStore] = {}
        self.exchange_caps = exchange_caps
        self.new_client_order_id = new_client_order_id
        self.convert = convert
        self._journal_span = journal_microseconds

    def flush(self) -> None:
        """Tell the accounts what the step just done left them with."""
        self.ledger.flush(self.now, self.events)

    def snapshot(self, order: Order) -> OrderState:
        """The order as it is now, remembered for queries about the past."""
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
        )
        order.updated_at = self.now
        history = order.history
        history.append(state)
        if len(history) > _HISTORY:
            self._prune(history)
        return state

    def _prune(self, history: list[OrderState]) -> None:
        horizon = self.now - self._journal_span
        keep = next((index for index, state in enumerate(history) if state.at > horizon), len(history))
        del history[: max(0, keep - 1)]
