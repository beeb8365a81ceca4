"""Move all money through one place, so that none appears or disappears on the way."""

from __future__ import annotations

from collections import deque

from exchanges.simulator.engine.events import AccountPositionEvent, Event
from exchanges.simulator.engine.types import Account, Balance, EngineError

INSUFFICIENT = "Account has insufficient balance for requested action."


# A balance before a change: time of the change, asset, free, locked, time of the change before.
_Before = tuple[int, str, int, int, int]


class Ledger:
    """Keep balances, collected fees, and the deposits less the withdrawals (`issued`).

    For each asset, the balances of all accounts plus the fees equal the issued amount.
    """

    def __init__(self, journal_microseconds: int, journal_limit: int) -> None:
        self.fees: dict[str, int] = {}
        self.issued: dict[str, int] = {}
        self._journal_span = journal_microseconds
        self._journal_limit = journal_limit
        self._journals: dict[str, deque[_Before]] = {}
        # The current step and its touched balances: (account, asset, balance, free, locked before).
        self._step = 0
        self._touched: list[tuple[Account, str, Balance, int, int]] = []

    def touch(self, account: Account, asset: str) -> Balance:
        """Return a balance that is about to change, and note its values before the change."""
        balance = account.balances.get(asset)
        if balance is None:
            balance = account.balances[asset] = Balance()
        if balance.step != self._step and not account.is_house:
            balance.step = self._step
            self._touched.append(
                (account, asset, balance, balance.free, balance.in_orders + balance.external)
            )
        return balance

    def endow(self, account: Account, asset: str, amount: int) -> None:
        """Give a first balance. It makes no event, and queries can't look back behind it."""
        account.balances[asset] = Balance(free=amount)
        self.issued[asset] = self.issued.get(asset, 0) + amount

    def issue(self, account: Account, asset: str, amount: int) -> None:
        """Deposit (positive) or withdraw (negative). Raise -2010 if less is free."""
        self._require(account, asset, -amount)
        self.touch(account, asset).free += amount
        self.issued[asset] = self.issued.get(asset, 0) + amount

    def lock_external(self, account: Account, asset: str, delta: int) -> None:
        held = account.balances.get(asset)
        if delta < 0 and (held is None or held.external + delta < 0):
            raise EngineError(-2010, INSUFFICIENT)
        self._require(account, asset, delta)
        balance = self.touch(account, asset)
        balance.free -= delta
        balance.external += delta

    def _require(self, account: Account, asset: str, amount: int) -> None:
        """Raise -2010 if less is free. Runs before `touch`, so that a refusal makes no event."""
        held = account.balances.get(asset)
        if amount > (held.free if held else 0):
            raise EngineError(-2010, INSUFFICIENT)

    def pay_house(self, account: Account, asset: str, amount: int) -> None:
        """Pay the house, or let it pay (negative). It gets more whenever it runs out."""
        balance = self.touch(account, asset)
        if balance.free + amount < 0:
            self.issue(account, asset, 2 * -amount)
        balance.free += amount

    def collect(self, asset: str, fee: int) -> None:
        self.fees[asset] = self.fees.get(asset, 0) + fee

    def flush(self, now: int, events: list[Event]) -> None:
        """Make one event per touched account and journal the values before the step."""
        touched = self._touched
        if not touched:
            return
        self._touched = []
        self._step += 1
        told: dict[str, list[tuple[str, int, int]]] = {}
        updated_before: dict[str, int] = {}
        for account, asset, balance, free, locked in touched:
            account_id = account.account_id
            rows = told.get(account_id)
            if rows is None:
                rows = told[account_id] = []
                updated_before[account_id] = account.updated_at
                account.updated_at = now
            rows.append((asset, balance.free, balance.in_orders + balance.external))
            self._remember(account_id, (now, asset, free, locked, updated_before[account_id]))
        for account_id, rows in told.items():
            events.append(AccountPositionEvent(account_id, now, tuple(rows)))

    def _remember(self, account_id: str, before: _Before) -> None:
        journal = self._journals.get(account_id)
        if journal is None:
            journal = self._journals[account_id] = deque(maxlen=self._journal_limit)
        journal.append(before)
        horizon = before[0] - self._journal_span
        while journal[0][0] < horizon:
            journal.popleft()

    def balances(self, account: Account, at: int | None) -> dict[str, tuple[int, int]]:
        """Return (free, locked) by asset, now or at `at` as far as the journal reaches."""
        current = {
            asset: (balance.free, balance.locked) for asset, balance in account.balances.items()
        }
        if at is not None:
            for when, asset, free, locked, _ in reversed(
                self._journals.get(account.account_id, ())
            ):
                if when <= at:
                    break
                current[asset] = (free, locked)
        return current

    def updated_at(self, account: Account, at: int | None) -> int:
        """Return the time of the last change, as it was at `at`."""
        found = account.updated_at
        if at is not None:
            for when, _, _, _, before in reversed(self._journals.get(account.account_id, ())):
                if when <= at:
                    break
                found = before
        return found

    def forget(self) -> None:
        self.fees.clear()
        self.issued.clear()
        self._journals.clear()
        self._touched.clear()
