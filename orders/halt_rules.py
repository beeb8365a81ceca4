"""Halts that no person presses: too much lost today, too many orders without an answer, placing that keeps failing.

The beat runs it every few seconds. A rule halts one account as a person would, and opens one break with the figures.
The halt ends as every other: a person with the permission resumes, and says why. Where too much is lost, or unresolved,
even then, the next run halts again; the limit or the setting is the place to change. A breaker is given its time anew,
as only an order that is sent can close it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.models import ExchangeAccount, TradingState
from exchanges.services import halt_by_rule, placing_is_broken
from orders.book import close_account_breaks, open_account_break
from orders.day_results import loss_today
from orders.models import BreakKind, BrokenPlacing, ExchangeOrder, Outcome, RiskLimit
from orders.risk_limits import Limits, check_loss
from orders.states import OrderStatus

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an account has to stop. `rule` is stable, the text holds both figures."""

    rule: str
    text: str


def apply_halt_rules() -> dict[str, int]:
    """Look at every account that may trade; returns how many there are and how many were halted."""
    now, halted = clock.now(), 0
    accounts = list(ExchangeAccount.objects.filter(is_enabled=True).exclude(trading_state=TradingState.HALTED))
    unresolved = _unresolved_orders(now)
    limits = _loss_limits()
    for account in accounts:
        close_account_breaks(account.pk, BreakKind.HALTED_BY_RULE, resolution="trading was resumed")
        cause = next(_causes(account, limits.get(account.pk, []), unresolved.get(account.pk, 0), now), None)
        halted += cause is not None and _halt(account, cause)
    return {"accounts": len(accounts), "halted": halted}


def _causes(account: ExchangeAccount, limits: list[Limits], unresolved: int, now: datetime) -> Iterator[Cause]:
    for row in limits:
        if text := _loss(account, row, now):
            yield Cause("daily-loss", text)
    most = settings.HALT_UNRESOLVED_ORDERS
    if most and unresolved >= most:
        yield Cause("unresolved-orders", f"{unresolved} orders have no answer, {most} halt the account")
    longest = settings.HALT_BREAKER_OPEN_SECONDS
    broken_for = _broken_for(account, now)
    if longest and broken_for >= timedelta(seconds=longest):
        seconds = f"{broken_for.total_seconds():.0f} s"
        yield Cause("breaker", f"placing has failed for {seconds}, {longest:g} s halt the account")


def _halt(account: ExchangeAccount, cause: Cause) -> bool:
    """False where a person, or another run, was faster: their reason stands."""
    with transaction.atomic():
        if not halt_by_rule(account=account, reason=f"by rule: {cause.text}", actor=f"rule:{cause.rule}"):
            return False
        open_account_break(account.pk, BreakKind.HALTED_BY_RULE, subject=cause.rule, details={"reason": cause.text})
        BrokenPlacing.objects.filter(account=account).delete()
    return True


def _loss_limits() -> dict[int, list[Limits]]:
    """Account id -> its limits of a day's loss."""
    found: dict[int, list[Limits]] = {}
    for row in RiskLimit.objects.filter(max_daily_loss__isnull=False):
        limits = Limits(id=row.pk, currency=row.currency, symbol=row.symbol, max_daily_loss=row.max_daily_loss)
        found.setdefault(row.account_id, []).append(limits)
    return found


def _loss(account: ExchangeAccount, row: Limits, now: datetime) -> str:
    try:
        denial = check_loss(row, loss_today(account.pk, row.currency, row.symbol, now))
    except NotSent as error:
        log.warning("loss_not_known", account=account.name, error=error.message)
        return ""
    return denial.text if denial else ""


def _unresolved_orders(now: datetime) -> dict[int, int]:
    """Account id -> requests of which nobody knows what became: no answer came, or their sender is gone."""
    gone = now - timedelta(milliseconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS)
    requests = ExchangeOrder.objects.filter(
        Q(outcome=Outcome.UNKNOWN) | Q(outcome=Outcome.IN_FLIGHT, sent_at__lt=gone),
        order__status=OrderStatus.PENDING_NEW,
    )
    return dict(requests.order_by().values_list("account_id").annotate(Count("order_id", distinct=True)))


def _broken_for(account: ExchangeAccount, now: datetime) -> timedelta:
    """How long the breaker of placing has been seen open; the first run that sees it so writes that down."""
    is_broken = placing_is_broken(account)
    if is_broken is None:
        return timedelta(0)  # nobody knows: neither the start of anything nor its end
    if not is_broken:
        BrokenPlacing.objects.filter(account=account).delete()
        return timedelta(0)
    seen, _ = BrokenPlacing.objects.get_or_create(account=account, defaults={"since": now})
    return now - seen.since
