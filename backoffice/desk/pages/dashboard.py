"""The front page is the desk. Each part is also a page of its own, for its live updates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _

from backoffice.desk.lists.columns import STATE_COLORS, STATUS_COLORS, duration, stream_label
from backoffice.desk.overview.charts import read_charts
from backoffice.desk.overview.day import read_day
from backoffice.desk.overview.figures import (
    ZERO,
    AccountFigures,
    Figures,
    age,
    money_text,
    read_figures,
)
from backoffice.desk.overview.verdict import verdict
from backoffice.duty_states import DutyState, duty_states
from backoffice.people.grants import account_names, accounts_of, narrow
from exchanges import clock
from exchanges.models import TradingState
from orders.models import Order, OrderEvent, Status

LATEST = 8
TAPE = 14
TAPE_REACH = 20_000


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add to the index page what this person may see. Unfold calls this."""
    for read in PARTS.values():
        context |= read(request)
    return context | {"names": _names(request), "is_fullwidth": "1"}


def desk_part(request: HttpRequest, part: str) -> HttpResponse:
    """Show one part of the desk alone: `now`, `charts` or `tape`."""
    read = PARTS.get(part)
    if read is None:
        raise Http404
    return render(request, f"desk/overview/{part}.html", read(request))


def _only(request: HttpRequest) -> str:
    return request.GET.get("account", "")


def _address(request: HttpRequest, part: str) -> str:
    only = _only(request)
    query = f"?account={only}" if only and _is_name(only) else ""
    return reverse("desk_part", args=[part]) + query


def _is_name(text: str) -> bool:
    return text.replace("-", "").isalnum()


def _names(request: HttpRequest) -> list[str]:
    if not request.user.has_perm("exchanges.view_exchangeaccount"):
        return []
    return list(accounts_of(request.user).values_list("name", flat=True))


# -- now -----------------------------------------------------------------------------------------


def _now(request: HttpRequest) -> dict[str, Any]:
    user = request.user
    context: dict[str, Any] = {"now_address": _address(request, "now"), "only": _only(request)}
    if not user.has_perm("exchanges.view_exchangeaccount"):
        return context
    figures = read_figures(clock.now(), _only(request), accounts_of(user))
    sees_orders = user.has_perm("orders.view_order")
    sees_breaks = user.has_perm("orders.view_reconciliationbreak")
    duties = _duties(request)
    context["troubles"] = verdict(
        figures,
        sees_orders=sees_orders,
        sees_breaks=sees_breaks,
        still=[state for state in duties if state.stands_still],
    )
    context["accounts_enabled"] = sum(card.account.is_enabled for card in figures.accounts.values())
    context["cards"] = [
        _card(card, figures, user.has_perm("orders.view_position"))
        | {"duties": [_last_run(each) for each in duties if each.account == card.account.name]}
        for card in figures.accounts.values()
    ]
    context |= {"sees_orders": sees_orders, "sees_breaks": sees_breaks}
    if sees_orders:
        context["today"] = _today(figures)
    return context


def _duties(request: HttpRequest) -> list[DutyState]:
    """Return the duties of all accounts, and those of the accounts that are shown."""
    if not request.user.has_perm("exchanges.view_dutyrun"):
        return []
    only, names = _only(request), account_names(request.user)
    return [
        state
        for state in duty_states()
        if (not only or state.account in ("", only))
        and (names is None or state.account in ("", *names))
    ]


def _last_run(state: DutyState) -> dict[str, str]:
    span = "" if state.age is None else duration(timedelta(seconds=state.age))
    return {"name": state.duty.rpartition(".")[2], "span": span}


def _card(card: AccountFigures, figures: Figures, sees_positions: bool) -> dict[str, Any]:
    account, now = card.account, figures.now
    limits = card.limits
    used = limits.weight_used if limits else None
    orders = reverse("admin:orders_order_changelist")
    scope = f"account__id__exact={account.pk}"
    return {
        "account": account,
        "figures": card,
        "color": STATE_COLORS[TradingState(account.trading_state)],
        "stream": stream_label(account),
        "lag_ms": card.stream.lag_ms if card.stream else None,
        "synced": _span(now, account.last_synced_at),
        "breakers": _breakers(limits.breakers) if limits else None,
        "weight": used,
        "weight_limit": limits.weight_limit if limits else 0,
        "weight_percent": _percent(used, limits.weight_limit) if limits else 0,
        "in_flight_age": _span(now, card.oldest_in_flight),
        "unresolved_age": _span(now, card.oldest_unresolved),
        "notional": [money_text(*pair, figures.money) for pair in sorted(card.notional.items())],
        "results": _results(card, figures.money) if sees_positions else None,
        "priced": _span(now, card.priced_at),
        "open_link": f"{orders}?phase=open&{scope}",
        "unresolved_link": f"{orders}?phase=unresolved&{scope}",
        "denied_link": f"{orders}?status={Status.DENIED}&{scope}",
        "rejected_link": f"{orders}?status={Status.REJECTED}&{scope}",
        "today_link": f"{orders}?{scope}&created_at_from_0={figures.midnight:%Y-%m-%d}"
        "&created_at_from_1=00:00:00",
        "breaks_link": reverse("admin:orders_reconciliationbreak_changelist")
        + f"?state=open&{scope}",
    }


def _span(now: Any, since: Any) -> str:
    span = age(now, since)
    return "" if span is None else duration(span)


def _percent(used: int | None, limit: int) -> int:
    return min(100, round(100 * (used or 0) / limit)) if limit else 0


def _breakers(states: dict[str, str]) -> dict[str, str]:
    """Return the text and the color of all breakers of an account together."""
    words = {
        "closed": _("closed"),
        "open": _("open"),
        "forced open": _("held open"),
        "forced closed": _("held closed"),
    }
    unusual = {kind: state for kind, state in states.items() if state != "closed"}
    if not unusual:
        return {"text": words["closed"], "color": "success"}
    text = ", ".join(f"{kind}: {words[state]}" for kind, state in unusual.items())
    is_open = any(state.endswith("open") for state in unusual.values())
    return {"text": text, "color": "danger" if is_open else "warning"}


def _results(card: AccountFigures, money: frozenset[str]) -> list[dict[str, Any]]:
    assets = sorted({*card.realized, *card.unrealized, *card.unknown_results})
    return [
        {
            "realized": _("unknown: a commission has no price")
            if asset in card.unknown_results
            else money_text(asset, card.realized.get(asset, ZERO), money),
            "unrealized": money_text(asset, card.unrealized[asset], money)
            if asset in card.unrealized
            else "",
        }
        for asset in assets
    ]


def _today(figures: Figures) -> list[dict[str, Any]]:
    """Count the orders recorded since midnight UTC, by status in the order of the state table."""
    counts: Counter[str] = Counter()
    for card in figures.accounts.values():
        counts.update(card.statuses)
    address = reverse("admin:orders_order_changelist")
    return [
        {
            "label": status.label,
            "count": counts[status],
            "color": STATUS_COLORS[status],
            "link": f"{address}?status={status}&created_at_from_0={figures.midnight:%Y-%m-%d}"
            "&created_at_from_1=00:00:00",
        }
        for status in Status
        if status in counts
    ]


# -- charts and tape -----------------------------------------------------------------------------


def _charts(request: HttpRequest) -> dict[str, Any]:
    if not request.user.has_perm("orders.view_order"):
        return {}
    accounts = accounts_of(request.user)
    if only := _only(request):
        accounts = accounts.filter(name=only)
    charts = read_charts(clock.now(), [*accounts.values_list("pk", flat=True)])
    names = {
        "received": _("decided to recorded"),
        "claimed": _("recorded to claimed"),
        "answered": _("claimed to answered"),
        "whole": _("recorded to answered"),
    }
    day = read_day(clock.now(), accounts) if request.user.has_perm("orders.view_position") else None
    return {
        "charts_address": _address(request, "charts"),
        "charts": {
            **{name: charts[name] for name in ("pace", "latency")},
            **(day.data() if day else {}),
        },
        "sums": [sum(counts) for counts in charts["pace"][1:]],
        "day": day,
        "result_texts": day
        and [(_("Realized"), day.text("realized")), (_("With open positions"), day.text("total"))],
        "exposure_texts": day and [(_("Exposure"), day.text("exposure"))],
        "answered": charts["answered"],
        "stages": [
            {"name": names[name], "figures": figures} for name, figures in charts["stages"].items()
        ],
    }


def _tape(request: HttpRequest) -> dict[str, Any]:
    context: dict[str, Any] = {"tape_address": _address(request, "tape")}
    only, user = _only(request), request.user
    if user.has_perm("orders.view_order"):
        orders = narrow(Order.objects.select_related("account"), user)
        orders = orders.order_by("-created_at", "-id")
        if only:
            orders = orders.filter(account__name=only)
        context["latest_orders"] = list(orders[:LATEST])
    if user.has_perm("orders.view_orderevent"):
        events = OrderEvent.objects.select_related("order__account").order_by("-id")
        events = narrow(events, user, path="order__account")
        if only:
            # An account that was quiet for long must not make the page read all events.
            newest = OrderEvent.objects.aggregate(newest=Max("id"))["newest"] or 0
            events = events.filter(order__account__name=only, id__gt=newest - TAPE_REACH)
        context["tape"] = list(events[:TAPE])
    return context


PARTS: dict[str, Callable[[HttpRequest], dict[str, Any]]] = {
    "now": _now,
    "charts": _charts,
    "tape": _tape,
}


def admin_part(request: HttpRequest, part: str) -> HttpResponse:
    """Show a part to the people who may use the admin."""
    return admin.site.admin_view(desk_part)(request, part=part)
