"""Collect everything that waits for a person, with its severity and the time it is due."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from backoffice.desk.key_age import due_keys, due_since, has_expired, is_due, key_text
from backoffice.desk.lists.columns import duration
from backoffice.desk.models import WorkItem
from backoffice.desk.order_page.next_step import next_step
from backoffice.desk.reasons import shown_reason
from backoffice.desk.work_queue.evidence import Evidence, evidence_of
from backoffice.duty_states import AGE, longest_age
from backoffice.people.drafts import drafts_of, waiting_drafts
from backoffice.people.grants import may_act_on, narrow
from backoffice.people.models import ChangeDraft
from exchanges import clock
from exchanges.models import AccountSync, DutyRun, ExchangeAccount, TradingHalt, TradingState
from orders import states
from orders.models import BreakKind, Order, ReconciliationBreak

#: The back office resolves most orders by itself within this time.
ORDER_PATIENCE = timedelta(seconds=60)
MOST_OF_A_KIND = 200


class Severity(StrEnum):
    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"


DUE_WITHIN = {
    Severity.CRITICAL: timedelta(minutes=15),
    Severity.HIGH: timedelta(hours=1),
    Severity.NORMAL: timedelta(hours=8),
}
SEVERITY_NAMES = {
    Severity.CRITICAL: pgettext_lazy("severity", "critical"),
    Severity.HIGH: pgettext_lazy("severity", "high"),
    Severity.NORMAL: pgettext_lazy("severity", "normal"),
}
# Money may be at risk at this moment.
_CRITICAL = {
    BreakKind.DOUBLE_PLACEMENT,
    BreakKind.OVERFILL,
    BreakKind.EXCHANGE_RESET,
    BreakKind.NUMBERS_REUSED,
    BreakKind.ACCOUNT_REFUSED,
}
_HIGH = {
    BreakKind.LATE_EVIDENCE,
    BreakKind.DIFFERENT_ORDER,
    BreakKind.FILL_GAP,
    BreakKind.BALANCE_MISMATCH,
    BreakKind.HALTED_BY_RULE,
    BreakKind.MISSING_AT_EXCHANGE,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """A verb that may end the wait, with the page where it is pressed."""

    title: Any
    address: str


@dataclass(slots=True)
class Waiting:
    """One thing that waits for a person."""

    key: str
    kind: Any
    name: str
    account: str
    since: datetime
    severity: Severity
    address: str
    advice: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    item: WorkItem | None = None
    ends_at: datetime | None = None

    @property
    def due_at(self) -> datetime:
        """Return when a person must have looked. A thing that ends by itself is due at its end."""
        return self.ends_at or self.since + DUE_WITHIN[self.severity]

    @property
    def is_late(self) -> bool:
        return self.due_at <= clock.now()

    @property
    def age(self) -> str:
        return duration(clock.now() - self.since)

    @property
    def due(self) -> str:
        left = self.due_at - clock.now()
        if self.is_late:
            return _("late by %(span)s") % {"span": duration(-left)}
        return _("in %(span)s") % {"span": duration(left)}

    @property
    def severity_name(self) -> Any:
        return SEVERITY_NAMES[self.severity]

    @property
    def owner(self) -> str:
        own = self.item and self.item.owner
        return own.get_username() if own else ""


def waiting_things(request: HttpRequest) -> list[Waiting]:
    """Return what waits and this person may see, the earliest due first."""
    found = sorted(_all(request), key=lambda one: one.due_at)
    rows = WorkItem.objects.filter(key__in=[one.key for one in found]).select_related("owner")
    items = {row.key: row for row in rows}
    for one in found:
        one.item = items.get(one.key)
    return found


def count_waiting(request: HttpRequest) -> int:
    """Return how many things wait, read once for a request."""
    known: int | None = getattr(request, "desk_waiting", None)
    if known is None:
        may = request.user.has_perm
        known = 0
        if may("orders.view_reconciliationbreak"):
            known += count_open_breaks(request)
        if may("orders.view_order"):
            known += narrow(_waiting_orders(), request.user).count()
        if may("exchanges.view_exchangeaccount"):
            known += _count_accounts(request.user) + len(_global_halt())
        known += count_drafts(request)
        if may("exchanges.view_dutyrun"):
            known += len(_standing_duties(request.user))
        request.desk_waiting = known  # type: ignore[attr-defined]
    return known


def count_open_breaks(request: HttpRequest) -> int:
    """Return how many open breaks the person may see, read once for a request."""
    known: int | None = getattr(request, "desk_open_breaks", None)
    if known is None:
        known = narrow(_open_breaks(), request.user).count()
        request.desk_open_breaks = known  # type: ignore[attr-defined]
    return known


def count_drafts(request: HttpRequest) -> int:
    """Return how many drafts wait and the person may see, read once for a request."""
    known: int | None = getattr(request, "desk_drafts", None)
    if known is None:
        known = _drafts(request.user).count()
        request.desk_drafts = known  # type: ignore[attr-defined]
    return known


def _all(request: HttpRequest) -> Iterator[Waiting]:
    may = request.user.has_perm
    if may("orders.view_reconciliationbreak"):
        rows = narrow(_open_breaks(), request.user).select_related("account", "order")
        yield from (_break(row) for row in rows.order_by("opened_at")[:MOST_OF_A_KIND])
    if may("orders.view_order"):
        orders = narrow(_waiting_orders(), request.user).select_related("account")
        yield from (_order(row) for row in orders.order_by("created_at")[:MOST_OF_A_KIND])
    if may("exchanges.view_exchangeaccount"):
        yield from map(_account, narrow(_halted_accounts(), request.user, path=""))
        yield from map(_everything, _global_halt())
        yield from map(_key, narrow(due_keys(), request.user).select_related("account"))
    drafts = _drafts(request.user).select_related("account").order_by("made_at")
    yield from map(_draft, drafts[:MOST_OF_A_KIND])
    if may("exchanges.view_dutyrun"):
        yield from map(_duty, _standing_duties(request.user))


# -- The kinds -----------------------------------------------------------------------------------


def _open_breaks() -> QuerySet[ReconciliationBreak]:
    return ReconciliationBreak.objects.filter(resolved_at__isnull=True)


def _break(row: ReconciliationBreak) -> Waiting:
    kind = BreakKind(row.kind) if row.kind in BreakKind else None
    severity = Severity.CRITICAL if kind in _CRITICAL else Severity.NORMAL
    page = reverse("admin:orders_reconciliationbreak_change", args=[row.pk])
    waiting = Waiting(
        key=f"break:{row.pk}",
        kind=gettext_lazy("break"),
        name=f"{row.get_kind_display()}: {row.subject}",
        account=row.account.name,
        since=row.opened_at,
        severity=Severity.HIGH if kind in _HIGH else severity,
        address=page,
        evidence=evidence_of(row),
        advice=_("Compare both sides. Then close the break with a resolution and a reason."),
        decisions=[Decision(gettext_lazy("Close this break"), page)],
    )
    if row.order_id:
        order = reverse("admin:orders_order_change", args=[row.order_id])
        waiting.decisions.append(Decision(gettext_lazy("Open the order"), order))
    return waiting


def _waiting_orders() -> QuerySet[Order]:
    """Return the held orders, and those that the back office should have resolved by now."""
    is_slow = Q(status__in=[*states.UNRESOLVED], created_at__lte=clock.now() - ORDER_PATIENCE)
    # One set of statuses around both, which a partial index serves.
    waiting = [*states.UNRESOLVED, states.OrderStatus.HELD]
    is_held = Q(status=states.OrderStatus.HELD)
    return Order.objects.filter(is_slow | is_held, status__in=waiting)


def _held(row: Order, page: str) -> Waiting:
    return Waiting(
        key=f"order:{row.pk}",
        kind=gettext_lazy("held order"),
        name=f"{row.side} {row.symbol} {row.intent_id}",
        account=row.account.name,
        since=row.created_at,
        severity=Severity.HIGH,
        address=page,
        advice=f"{shown_reason(row.reason)}. {next_step(row).text}",
        decisions=[Decision(gettext_lazy("Release or reject it"), page)],
        ends_at=row.place_by,
    )


def _order(row: Order) -> Waiting:
    page = reverse("admin:orders_order_change", args=[row.pk])
    if row.status == states.OrderStatus.HELD:
        return _held(row, page)
    return Waiting(
        key=f"order:{row.pk}",
        kind=gettext_lazy("unresolved order"),
        name=f"{row.side} {row.symbol} {row.intent_id}",
        account=row.account.name,
        since=row.created_at,
        severity=Severity.HIGH,
        address=page,
        advice=next_step(row).text,
        evidence=[
            Evidence(
                gettext_lazy("status"), str(row.get_status_display()), _("no trustworthy answer")
            )
        ],
        decisions=[
            Decision(gettext_lazy("Cancel it, or declare it lost"), page),
        ],
    )


def _count_accounts(user: Any) -> int:
    """Count the halted accounts and the keys to replace, with one query."""
    rows = narrow(ExchangeAccount.objects.filter(is_enabled=True), user, path="")
    halted, keys = Q(trading_state=TradingState.HALTED), is_due("sync__")
    counted = rows.aggregate(
        halted=Count("pk", filter=halted, distinct=True),
        keys=Count("pk", filter=keys, distinct=True),
    )
    return int(counted["halted"] + counted["keys"])


def _halted_accounts() -> QuerySet[ExchangeAccount]:
    return ExchangeAccount.objects.filter(is_enabled=True, trading_state=TradingState.HALTED)


def _account(row: ExchangeAccount) -> Waiting:
    page = reverse("admin:exchanges_exchangeaccount_change", args=[row.pk])
    return Waiting(
        key=f"account:{row.pk}",
        kind=gettext_lazy("halted account"),
        name=row.trading_state_reason or str(row.get_trading_state_display()),
        account=row.name,
        since=row.trading_state_changed_at or row.created_at,
        severity=Severity.HIGH,
        address=page,
        advice=_("Nothing new is sent. Find the cause, then resume trading with a reason."),
        decisions=[Decision(gettext_lazy("Resume trading"), page)],
    )


def _global_halt() -> list[TradingHalt]:
    return list(TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True))


def _everything(row: TradingHalt) -> Waiting:
    page = reverse("admin:exchanges_tradinghalt_change", args=[row.pk])
    return Waiting(
        key="halt:everything",
        kind=gettext_lazy("global halt"),
        name=row.reason,
        account=_("all accounts"),
        since=row.changed_at,
        severity=Severity.CRITICAL,
        address=page,
        advice=_("Nothing new is sent. Find the cause, then resume trading with a reason."),
        decisions=[Decision(gettext_lazy("Resume trading"), page)],
    )


def _key(row: AccountSync) -> Waiting:
    page = reverse("admin:exchanges_exchangeaccount_change", args=[row.account_id])
    return Waiting(
        key=f"key:{row.account_id}",
        kind=gettext_lazy("API key"),
        name=key_text(row),
        account=row.account.name,
        since=due_since(row) or clock.now(),
        severity=Severity.HIGH if has_expired(row) else Severity.NORMAL,
        address=page,
        advice=_("Make a new key at the exchange, give it to the workers, and delete this one."),
        decisions=[Decision(gettext_lazy("Open the account"), page)],
        ends_at=row.key_expires_at,
    )


def _drafts(user: Any) -> QuerySet[ChangeDraft]:
    if not user.has_perm("people.view_changedraft"):
        return ChangeDraft.objects.none()
    return drafts_of(waiting_drafts(), user)


def _draft(row: ChangeDraft) -> Waiting:
    page = reverse("admin:people_changedraft_change", args=[row.pk])
    return Waiting(
        key=row.name,
        kind=gettext_lazy("draft"),
        name=f"{row.get_kind_display()}: {row.shown}",
        account=row.account.name if row.account else _("all accounts"),
        since=row.made_at,
        severity=Severity.NORMAL,
        address=page,
        advice=_("Made by %(maker)s. Compare before and after, then publish or reject it.")
        % {"maker": row.maker},
        decisions=[Decision(gettext_lazy("Publish or reject"), page)],
        ends_at=row.expires_at,
    )


def _standing_duties(user: Any) -> list[Any]:
    rows: Any = DutyRun.objects.select_related("account").annotate(age=AGE)
    return [
        row
        for row in rows
        if row.age.total_seconds() > longest_age(row.duty)
        and (row.account_id is None or may_act_on(user, row.account_id))
    ]


def _duty(row: Any) -> Waiting:
    page = reverse("admin:exchanges_dutyrun_changelist")
    return Waiting(
        key=f"duty:{row.pk}",
        kind=gettext_lazy("duty that stands still"),
        name=row.duty,
        account=row.account.name if row.account else _("all accounts"),
        since=row.ran_at,
        severity=Severity.CRITICAL,
        address=page,
        advice=_("Check that beat and a worker of the duties queue are running."),
        decisions=[Decision(gettext_lazy("Open the duties"), page)],
    )
