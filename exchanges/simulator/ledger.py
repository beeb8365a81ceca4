"""Who owns what: every movement of money goes through here, so that nothing is made or lost on the way."""

from __future__ import annotations

from collections import deque

from exchanges.simulator.model import Account, AccountPositionEvent, Balance, EngineError, Event

INSUFFICIENT = "Account has insufficient balance for requested action."


class Ledger:
    """Balances, collected fees and `issued`: what was ever deposited less what was withdrawn.

    For each asset the balances of all accounts plus the fees equal what was issued.
    """

    def __init__(self, journal_microseconds: int, journal_limit: int) -> None:
        self.fees: dict[str, int] = {}
        self.issued: dict[str, int] = {}
        self._journal_span = journal_microseconds
        self._journal_limit = journal_limit
        self._journals: dict[str, deque[tuple[int, str, int, int]]] = {}
        # the step under way, and the balances it touched: (account, asset, balance, free, locked before)
        self._step = 0
        self._touched: list[tuple[Account, str, Balance, int, int]] = []

    def touch(self, account: Account, asset: str) -> Balance:
        """The balance, about to be changed."""
        balance = account.balances.get(asset)
        if balance is None:
            balance = account.balances[asset] = Balance()
        if balance.step != self._step and not account.is_house:
            balance.step = self._step
            self._touched.append((account, asset, balance, balance.free, balance.in_orders + balance.external))
        return balance

    def endow(self, account: Account, asset: str, amount: int) -> None:
        """A balance that was there from the start: nobody is told, no query looks back behind it."""
        account.balances[asset] = Balance(free=amount)
        self.issued[asset] = self.issued.get(asset, 0) + amount

    def issue(self, account: Account, asset: str, amount: int) -> None:
        """Deposit (positive) or withdraw (negative); -2010 when more is withdrawn than is free."""
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
        """Asked before anything is touched: what is refused is not told."""
        held = account.balances.get(asset)
        if amount > (held.free if held else 0):
            raise EngineError(-2010, INSUFFICIENT)

    def pay_house(self, account: Account, asset: str, amount: int) -> None:
        """The house receives, or pays (negative) and is endowed anew when it runs out."""
        balance = self.touch(account, asset)
        if balance.free + amount < 0:
            self.issue(account, asset, 2 * -amount)
        balance.free += amount

    def collect(self, asset: str, fee: int) -> None:
        self.fees[asset] = self.fees.get(asset, 0) + fee

    def flush(self, now: int, events: list[Event]) -> None:
        """One event per account that the call touched; what was before goes to the journal."""
        touched = self._touched
        if not touched:
            return
        self._touched = []
        self._step += 1
        told: dict[str, list[tuple[str, int, int]]] = {}
        for account, asset, balance, free, locked in touched:
            account_id = account.account_id
            rows = told.get(account_id)
            if rows is None:
                rows = told[account_id] = []
                account.updated_at = now
            rows.append((asset, balance.free, balance.in_orders + balance.external))
            self._remember(account_id, (now, asset, free, locked))
        for account_id, rows in told.items():
            events.append(AccountPositionEvent(account_id, now, tuple(rows)))

    def _remember(self, account_id: str, before: tuple[int, str, int, int]) -> None:
        journal = self._journals.get(account_id)
        if journal is None:
            journal = self._journals[account_id] = deque(maxlen=self._journal_limit)
        journal.append(before)
        horizon = before[0] - self._journal_span
        while journal[0][0] < horizon:
            journal.popleft()

    def balances(self, account: Account, at: int | None) -> dict[str, tuple[int, int]]:
        """Free and locked now, or as they were at `at` (as far as the journal reaches)."""
        current = {asset: (balance.free, balance.locked) for asset, balance in account.balances.items()}
        if at is not None:
            for when, asset, free, locked in reversed(self._journals.get(account.account_id, ())):
                if when <= at:
                    break
                current[asset] = (free, locked)
        return current

    def forget(self) -> None:
        self.fees.clear()
        self.issued.clear()
        self._journals.clear()
        self._touched.clear()
