"""Halt accounts by rule: daily loss over the limit, too many unresolved orders, failing placement.

The beat runs this every few seconds. A rule halts an account like a person would, and opens one
break with the amounts. The halt ends like any other: a person with the permission resumes trading
and gives a reason. If the loss or the unresolved orders are still over their limit then, the next
run halts the account again, so the limit must change first. A breaker gets its full time again,
because only an order that is sent can close it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from celery import current_app
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q

from exchanges import clock
from exchanges.breakers import placing_is_broken
from exchanges.db.duty_runs import stamp_runs
from exchanges.duties import HALT_RULES, repeated
from exchanges.errors import NotSent
from exchanges.models import ExchangeAccount, TradingState
from exchanges.trading_state import halt_by_rule
from orders.db_retry import is_database_away
from orders.gate.checks import Denial
from orders.gate.limits import LOSS_UNKNOWN, Limits, check_loss, in_force, limits_of_row
from orders.models import AttemptOutcome, BreakKind, ExchangeOrder, PlacementOutage, RiskLimit
from orders.positions.store import advance_recent
from orders.positions.today import loss_today
from orders.recording.breaks import close_account_breaks, open_account_break
from orders.states import OrderStatus

log = structlog.get_logger(__name__)

# Ask again for a missing price after so long.
FEE_PRICES_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Cause:
    """The reason for a halt: the rule's stable name, and a text with the amount and its limit."""

    rule: str
    text: str


def apply_halt_rules() -> dict[str, int]:
    """Check every account that may trade. Return how many there are and how many were halted.

    Each account whose rules could be checked gets a stamp, a halted one as well: it may trade as
    soon as a person resumes it.
    """
    now, halted = clock.now(), 0
    enabled = list(ExchangeAccount.objects.filter(is_enabled=True))
    accounts = [row for row in enabled if row.trading_state != TradingState.HALTED]
    checked = {row.pk for row in enabled}
    unresolved = _unresolved_orders(now)
    limits = _loss_limits()
    for account in accounts:
        try:
            causes = _causes(
                account, limits.get(account.pk, []), unresolved.get(account.pk, 0), now
            )
            halted += _apply_rules(account, causes)
        except Exception as error:
            if is_database_away(error):
                raise
            # The rules of the other accounts must not wait for this one.
            log.exception("halt_rules_failed", account=account.name)
            checked.discard(account.pk)
    stamp_runs(HALT_RULES, checked)
    return {"accounts": len(accounts), "halted": halted}


def _apply_rules(account: ExchangeAccount, causes: Iterator[Cause]) -> bool:
    close_account_breaks(account.pk, BreakKind.HALTED_BY_RULE, resolution="trading was resumed")
    cause = next(causes, None)
    return cause is not None and _halt(account, cause)


def _causes(
    account: ExchangeAccount, limits: list[Limits], unresolved: int, now: datetime
) -> Iterator[Cause]:
    if limits:
        advance_recent(account)  # So that orders that need the loss of today add up few fills.
    denials = [denial for row in limits if (denial := _loss(account, row, now))]
    _note_unknown(account, [denial.text for denial in denials if denial.code == LOSS_UNKNOWN])
    for denial in denials:
        if denial.code != LOSS_UNKNOWN:
            yield Cause("daily-loss", denial.text)
    most = settings.HALT_UNRESOLVED_ORDERS
    if most and unresolved >= most:
        yield Cause(
            "unresolved-orders", f"{unresolved} orders have no answer, {most} halt the account"
        )
    longest = settings.HALT_BREAKER_OPEN_SECONDS
    broken_for = _broken_for(account, now)
    if longest and broken_for >= timedelta(seconds=longest):
        seconds = f"{broken_for.total_seconds():.0f} s"
        yield Cause("breaker", f"placing has failed for {seconds}, {longest:g} s halt the account")


def _halt(account: ExchangeAccount, cause: Cause) -> bool:
    """Halt the account. Return False if it was halted already, then that reason stays."""
    with transaction.atomic():
        if not halt_by_rule(
            account=account, reason=f"by rule: {cause.text}", actor=f"rule:{cause.rule}"
        ):
            return False
        open_account_break(
            account.pk, BreakKind.HALTED_BY_RULE, subject=cause.rule, details={"reason": cause.text}
        )
        PlacementOutage.objects.filter(account=account).delete()
    return True


def _loss_limits() -> dict[int, list[Limits]]:
    """Return the limits of the daily loss that are in force, by account id."""
    rows: dict[int, list[Limits]] = defaultdict(list)
    for row in RiskLimit.objects.all():
        rows[row.account_id].append(limits_of_row(row))
    now = clock.now()
    return {
        account_id: [row for row in in_force(own, now) if row.max_daily_loss is not None]
        for account_id, own in rows.items()
    }


def _loss(account: ExchangeAccount, row: Limits, now: datetime) -> Denial | None:
    try:
        loss = loss_today(account.pk, row.currency, row.symbol, now)
    except NotSent as error:
        return Denial(LOSS_UNKNOWN, error.message)
    return check_loss(row, loss.amount, loss.unpriced)


def _note_unknown(account: ExchangeAccount, reasons: list[str]) -> None:
    """Open a break while the loss of today is unknown, and ask for the prices that it lacks.

    The rule doesn't halt the account then. The gate lets no buy pass meanwhile.
    """
    if not reasons:
        close_account_breaks(account.pk, BreakKind.LOSS_UNKNOWN, resolution="the loss is known")
        return
    open_account_break(
        account.pk,
        BreakKind.LOSS_UNKNOWN,
        subject=account.name,
        details={"reason": "; ".join(reasons)},
    )
    try:
        # By name, because `orders.tasks` is a layer above.
        current_app.loader.import_default_modules()
        current_app.tasks["orders.refresh_positions_of"].apply_async(
            (account.name,), ignore_result=True, **repeated(FEE_PRICES_SECONDS)
        )
    except Exception as error:  # noqa: BLE001  the next run asks again
        log.warning("fee_prices_not_requested", account=account.name, error=type(error).__name__)


def _unresolved_orders(now: datetime) -> dict[int, int]:
    """Count orders whose request has no known outcome, by account id.

    No answer came, or the process that sent it is gone.
    """
    gone = now - timedelta(milliseconds=settings.EXCHANGE_REQUEST_TIMEOUT_MS)
    requests = ExchangeOrder.objects.filter(
        Q(outcome=AttemptOutcome.UNKNOWN) | Q(outcome=AttemptOutcome.IN_FLIGHT, sent_at__lt=gone),
        order__status=OrderStatus.PENDING_NEW,
    )
    return dict(
        requests.order_by().values_list("account_id").annotate(Count("order_id", distinct=True))
    )


def _broken_for(account: ExchangeAccount, now: datetime) -> timedelta:
    """Return how long the breaker of placing has been open. The first run that sees it stores
    the time.
    """
    is_broken = placing_is_broken(account)
    if is_broken is None:
        return timedelta(0)  # Unknown: neither the start nor the end of an outage.
    if not is_broken:
        PlacementOutage.objects.filter(account=account).delete()
        return timedelta(0)
    seen, _ = PlacementOutage.objects.get_or_create(account=account, defaults={"since": now})
    return now - seen.since
