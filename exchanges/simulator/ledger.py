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
        # account -> asset -> (free, locked) before the call that is under way
        self._touched: dict[str, dict[str, tuple[int, int]]] = {}
        self._accounts: dict[str, Account] = {}

    def touch(self, account: Account, asset: str) -> Balance:
        """The balance, about to be changed."""
        balance = account.balances.get(asset)
        if balance is None:
            balance = account.balances[asset] = Balance()
        if not account.is_house:
            touched = self._touched.get(account.account_id)
            if touched is None:
                touched = self._touched[account.account_id] = {}
                self._accounts[account.account_id] = account
            if asset not in touched:
                touched[asset] = (balance.free, balance.in_orders + balance.external)
        return balance

    def endow(self, account: Account, asset: str, amount: int) -> None:
        """A balance that was there from the start: nobody is told, no query looks back behind it."""
        account.balances[asset] = Balance(free=amount)
        self.issued[asset] = self.issued.get(asset, 0) + amount

    def issue(self, account: Account, asset: str, amount: int) -> None:
        """Deposit (positive) or withdraw (negative); -2010 when more is withdrawn than is free."""
        balance = self.touch(account, asset)
        if balance.free + amount < 0:
            raise EngineError(-2010, INSUFFICIENT)
        balance.free += amount
        self.issued[asset] = self.issued.get(asset, 0) + amount

    def lock_external(self, account: Account, asset: str, delta: int) -> None:
        balance = self.touch(account, asset)
        if balance.free < delta or balance.external + delta < 0:
            raise EngineError(-2010, INSUFFICIENT)
        balance.free -= delta
        balance.external += delta

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
        self._touched = {}
        for account_id, assets in touched.items():
            account = self._accounts[account_id]
            journal = self._journals.get(account_id)
            if journal is None:
                journal = self._journals[account_id] = deque(maxlen=self._journal_limit)
            while journal and journal[0][0] < now - self._journal_span:
                journal.popleft()
            rows = []
            for asset, (free, locked) in assets.items():
                journal.append((now, asset, free, locked))
                balance = account.balances[asset]
                rows.append((asset, balance.free, balance.in_orders + balance.external))
            account.updated_at = now
            events.append(AccountPositionEvent(account_id, now, tuple(rows)))

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
