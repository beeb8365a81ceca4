"""Stop trading at any level, and prove it: halt, record the cancels, and ask until nothing is open.

A halt and the record of the cancels need the database alone. A process without keys asks a worker
for the rest. Without an answer the sweep or the listener sends the cancels, and nothing is proven.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import QuerySet

from exchanges import trading_state
from exchanges.errors import GatewayError, NotSent
from exchanges.key_holders import ask_a_worker, must_ask
from exchanges.models import ExchangeAccount
from exchanges.scoped_halts import halt_scope
from orders.models import Order
from orders.reconciliation.open_orders import sync_open_orders
from orders.services import cancel_orders, request_cancels
from orders.states import CLOSED, OrderStatus
from orders.sweep import sweep_account


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of trading that is meant. Empty fields mean all, and `order` means it alone."""

    account: ExchangeAccount | None = None
    symbol: str = ""
    strategy: str = ""
    order: UUID | None = None

    def not_closed(self) -> QuerySet[Order]:
        """Return the orders within it that may still trade, oldest first."""
        rows = Order.objects.filter(status__in=[*(set(OrderStatus) - CLOSED)])
        given = {
            "account": self.account,
            "symbol": self.symbol,
            "strategy": self.strategy,
            "pk": self.order,
        }
        rows = rows.filter(**{name: value for name, value in given.items() if value})
        return rows.select_related("account").order_by("created_at", "id")


@dataclass(frozen=True, slots=True)
class Proof:
    """The orders that are still open, and the accounts whose exchange gave no answer."""

    left: list[Order]
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        return not self.left and not self.troubles


def halt(scope: Scope, *, reason: str, actor: str) -> None:
    """Stop new orders within the scope. A scope of a single order needs no halt."""
    if scope.order is not None:
        return
    if scope.symbol or scope.strategy:
        halt_scope(
            account=scope.account,
            symbol=scope.symbol,
            strategy=scope.strategy,
            reason=reason,
            actor=actor,
        )
    else:
        trading_state.halt_trading(account=scope.account, reason=reason, actor=actor)


def request_all_cancels(scope: Scope, *, reason: str, actor: str) -> int:
    """Record a cancel for every order within the scope that isn't closed. Return their count."""
    found = [*scope.not_closed().values_list("pk", flat=True)]
    request_cancels(found, requested_by=actor, reason=reason)
    return len(found)


def press_on(scope: Scope, *, reason: str, actor: str, give_up_at: float) -> Proof:
    """Cancel the open orders, ask the exchange for the rest, and return the answer.

    Call it again until the proof is complete. It does the sweep's work for the accounts that it is
    about, so it gets there without a worker.
    """
    found = [*scope.not_closed()]
    cancel_orders(
        [order.pk for order in found], requested_by=actor, reason=reason, give_up_at=give_up_at
    )
    for account in {order.account for order in scope.not_closed()}:
        _sweep(account)
    troubles = compare(_concerned(scope, found))
    return Proof([*scope.not_closed()], troubles)


def _sweep(account: ExchangeAccount) -> None:
    """Sweep the account in a process that has its key. If none answers, beat's sweep does it."""
    if not must_ask(account):
        sweep_account(account)
        return
    with suppress(NotSent):  # logged there
        ask_a_worker("orders.sweep_account", account.name)


def _compare(account: ExchangeAccount) -> None:
    """Compare the account with the exchange, where its key is. Raise `GatewayError`."""
    if not must_ask(account):
        sync_open_orders(account, wait=True)
    elif ask_a_worker("orders.sync_open_orders", account.name).get("skipped"):
        raise NotSent("another comparison is at work", retry_after=None)


def _concerned(scope: Scope, found: Iterable[Order]) -> list[ExchangeAccount]:
    """Return the accounts to ask: a disabled one may lack a key, so only if it has open orders."""
    accounts = {order.account for order in found}
    if scope.order is None and scope.account is None:
        accounts |= {*ExchangeAccount.objects.filter(is_enabled=True)}
    elif scope.account is not None:
        accounts.add(scope.account)
    return sorted(accounts, key=lambda account: account.name)


def compare(accounts: Iterable[ExchangeAccount]) -> dict[str, str]:
    """Sync the accounts with the exchange. Return the errors by account name."""
    troubles = {}
    for account in accounts:
        try:
            _compare(account)
        except GatewayError as error:
            troubles[account.name] = str(error)
    return troubles
