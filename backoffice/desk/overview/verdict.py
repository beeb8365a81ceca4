"""Sum up the desk in one line: all is well, or each problem with its page, the worst first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from backoffice.desk.lists.columns import duration
from backoffice.desk.overview.figures import AccountFigures, Figures, age
from backoffice.desk.scopes import scope_name
from backoffice.duty_states import DutyState
from exchanges.models import TradingState

#: An order without an answer for longer than its proof usually takes needs a look.
UNRESOLVED_PATIENCE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that isn't well. A higher `weight` is graver."""

    weight: int
    text: str
    link: str

    @property
    def level(self) -> str:
        return "danger" if self.weight >= 60 else "warning"


def verdict(
    figures: Figures, *, sees_orders: bool, sees_breaks: bool, still: Sequence[DutyState] = ()
) -> list[Trouble]:
    """Return the troubles that this person may see, the gravest first. None: all is well."""
    found = [*_of_everything(figures), *_of_duties(still)]
    for card in figures.accounts.values():
        if not card.account.is_enabled:
            continue
        found += _of_permission(card)
        found += _of_connection(card, figures)
        if sees_orders:
            found += _of_orders(card, figures)
        if sees_breaks:
            found += _of_breaks(card)
    return sorted(found, key=lambda trouble: -trouble.weight)


def _of_everything(figures: Figures) -> Iterator[Trouble]:
    if figures.halt is not None:
        text = _("All trading is halted by %(who)s: %(reason)s")
        told = {"who": figures.halt.changed_by, "reason": figures.halt.reason}
        link = reverse("admin:exchanges_tradinghalt_change", args=[figures.halt.pk])
        yield Trouble(100, text % told, link)
    for row in figures.scoped_halts:
        told = {"scope": scope_name(row), "who": row.halted_by, "reason": row.reason}
        yield Trouble(50, _("Halted by %(who)s: %(scope)s: %(reason)s") % told, reverse("stop"))
    if figures.accounts and not figures.knows_limits:
        text = _("Redis doesn't answer: nothing is sent, and breakers and weight are unknown")
        yield Trouble(90, text, reverse("admin:exchanges_exchangeaccount_changelist"))


def _of_duties(still: Sequence[DutyState]) -> Iterator[Trouble]:
    if still:
        text = _("These duties stand still: %(names)s. Check beat and the workers.")
        names = ", ".join(map(str, still))
        yield Trouble(88, text % {"names": names}, reverse("admin:exchanges_dutyrun_changelist"))


def _page_of(card: AccountFigures) -> str:
    return reverse("admin:exchanges_exchangeaccount_change", args=[card.account.pk])


def _of_permission(card: AccountFigures) -> Iterator[Trouble]:
    told = {"account": card.account.name, "reason": card.account.trading_state_reason}
    if card.account.trading_state == TradingState.HALTED:
        text = _("%(account)s is halted: %(reason)s")
        yield Trouble(80, text % told, _page_of(card))
    elif card.account.trading_state == TradingState.REDUCING:
        text = _("%(account)s may only reduce: %(reason)s")
        yield Trouble(40, text % told, _page_of(card))


def _of_connection(card: AccountFigures, figures: Figures) -> Iterator[Trouble]:
    name, link = card.account.name, _page_of(card)
    synced = card.account.last_synced_at
    since = age(figures.now, synced)
    if since is None or since > timedelta(seconds=settings.MAX_UNSYNCED_SECONDS):
        span = duration(since) if since is not None else ""
        text = _("%(account)s: last sync %(span)s ago") if span else _("%(account)s: never synced")
        yield Trouble(75, text % {"account": name, "span": span}, link)
    if card.stream is None or not card.stream.is_healthy(figures.now):
        yield Trouble(30, _("%(account)s: the user stream isn't in sync") % {"account": name}, link)
    for kind, state in (card.limits.breakers if card.limits else {}).items():
        if state.endswith("open"):
            text = _("%(account)s: the breaker of %(kind)s is open")
            yield Trouble(70, text % {"account": name, "kind": kind}, link)
    if card.limits and card.limits.is_stopped:
        text = _("%(account)s: the exchange has stopped our requests for now")
        yield Trouble(72, text % {"account": name}, link)


def _of_orders(card: AccountFigures, figures: Figures) -> Iterator[Trouble]:
    waited = age(figures.now, card.oldest_unresolved)
    if waited is None or waited <= UNRESOLVED_PATIENCE:
        return
    text = ngettext(
        "%(account)s: %(count)d unresolved order, oldest %(span)s",
        "%(account)s: %(count)d unresolved orders, oldest %(span)s",
        card.unresolved,
    )
    told = {"account": card.account.name, "count": card.unresolved, "span": duration(waited)}
    link = reverse("admin:orders_order_changelist")
    query = f"?phase=unresolved&account__id__exact={card.account.pk}"
    yield Trouble(85, text % told, link + query)


def _of_breaks(card: AccountFigures) -> Iterator[Trouble]:
    if not card.breaks:
        return
    text = ngettext(
        "%(account)s: %(count)d open break", "%(account)s: %(count)d open breaks", card.breaks
    )
    link = reverse("admin:orders_reconciliationbreak_changelist")
    told = {"account": card.account.name, "count": card.breaks}
    yield Trouble(65, text % told, f"{link}?state=open&account__id__exact={card.account.pk}")
