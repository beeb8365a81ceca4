"""Keep which symbols an account has traded, and which of them the exchange refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import structlog
from django.db import IntegrityError, transaction

from exchanges import clock
from exchanges.acts import record_act
from exchanges.binance.error_table import is_symbol_gone, is_symbol_not_permitted
from exchanges.errors import GatewayError, OrderRejected
from exchanges.models import ExchangeAccount, SymbolCatchUp
from orders.models import BreakKind, ReconciliationBreak
from orders.recording.breaks import open_account_break

log = structlog.get_logger(__name__)


def remember_symbols(account: ExchangeAccount, symbols: Iterable[str]) -> None:
    """Add the symbols to those that each comparison covers."""
    rows = [SymbolCatchUp(account=account, symbol=symbol) for symbol in sorted(set(symbols))]
    SymbolCatchUp.objects.bulk_create(rows, ignore_conflicts=True)


def kind_of_trouble(error: GatewayError) -> BreakKind | None:
    """Return the kind of break of an error that is about the symbol. None for any other error."""
    if is_symbol_gone(error):
        return BreakKind.SYMBOL_GONE
    return BreakKind.SYMBOL_NOT_PERMITTED if is_symbol_not_permitted(error) else None


def note_trouble(account: ExchangeAccount, symbol: str, error: GatewayError) -> bool:
    """Open a break if the error is about the symbol. Return whether it is."""
    kind = kind_of_trouble(error)
    if kind is None:
        return False
    details = {"code": error.code, "message": error.message}
    open_account_break(account.pk, kind, subject=symbol, details=details)
    return True


@contextmanager
def one_symbol(account: ExchangeAccount, symbol: str) -> Iterator[None]:
    """End the block but not the run if the exchange refuses the symbol. A break names it."""
    try:
        yield
    except OrderRejected as error:
        if not note_trouble(account, symbol, error):
            raise


def note_answer(account: ExchangeAccount, symbol: str) -> None:
    """Close the break of a symbol that the exchange knows again."""
    rows = ReconciliationBreak.objects.filter(
        account=account, kind=BreakKind.SYMBOL_GONE, subject=symbol, resolved_at__isnull=True
    )
    rows.update(resolved_at=clock.now(), resolution="the exchange knows the symbol again")


def mark_gone(account: ExchangeAccount, symbol: str, *, reason: str, actor: str) -> bool:
    """Open the break of a symbol that a person knows to be gone. It names the person.

    Return False if the symbol has such a break already. Raises `ValueError` if the reason is
    missing. The symbol counts as known again when the break is closed.
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    try:
        with transaction.atomic():
            ReconciliationBreak.objects.create(
                account=account,
                kind=BreakKind.SYMBOL_GONE,
                subject=symbol,
                details={"message": reason, "marked_by": actor},
            )
            record_act(
                "mark_symbol_gone",
                actor=actor,
                subject=f"account:{account.name}",
                account=account.name,
                reason=reason,
                after={"symbol": symbol},
            )
    except IntegrityError:  # The same cause has one open break.
        return False
    log.warning("symbol_marked_gone", account=account.name, symbol=symbol, actor=actor)
    return True


def gone_symbols(account: ExchangeAccount) -> set[str]:
    """Return the symbols with an open break that says the exchange doesn't know them."""
    rows = ReconciliationBreak.objects.filter(
        account=account, kind=BreakKind.SYMBOL_GONE, resolved_at__isnull=True
    )
    return set(rows.values_list("subject", flat=True))
