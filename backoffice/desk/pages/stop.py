"""The stop page: one order, a strategy, a symbol, an account, or everything.

It shows the consequences first, then stops, and asks the exchange again until nothing is open.
Halting and recording the cancels need neither the broker nor a worker.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from backoffice.desk.drafts.notices import say_draft
from backoffice.desk.overview.figures import money_of, money_text
from backoffice.desk.scopes import scope_name
from backoffice.people.grants import accounts_of, has_every_account, may_act_on
from backoffice.people.models import ChangeDraft
from backoffice.people.resuming import resume_halt
from backoffice.people.step_up import ask_again as ask_again_who
from exchanges import clock
from exchanges.models import ExchangeAccount, Instrument, ScopedHalt, TradingHalt, TradingState
from exchanges.types import EXACT, Side
from orders import states, stopping
from orders.models import Order, Status
from orders.stopping import Proof, Scope

ZERO = Decimal(0)
#: One round of asking. The page begins the next one as soon as this one has answered.
ROUND_SECONDS = 5.0
SHOWN = 30


class ScopeForm(forms.Form):
    """Choose the part of trading to stop."""

    everything = forms.BooleanField(required=False, widget=forms.HiddenInput)
    account = forms.ModelChoiceField(
        ExchangeAccount.objects.none(),  # those of the person
        to_field_name="name",
        required=False,
        empty_label=gettext_lazy("every account"),
        label=gettext_lazy("Account"),
        widget=UnfoldAdminSelectWidget,
    )
    symbol = forms.CharField(
        max_length=32,
        required=False,
        label=gettext_lazy("Symbol"),
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "BTCUSDT"}),
    )
    strategy = forms.CharField(
        max_length=64,
        required=False,
        label=gettext_lazy("Strategy"),
        widget=UnfoldAdminTextInputWidget,
    )
    order = forms.UUIDField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        account: Any = self.fields["account"]
        account.queryset = accounts_of(user)

    def clean_symbol(self) -> str:
        symbol: str = self.cleaned_data["symbol"]
        return symbol.replace("/", "").upper()

    @property
    def scope(self) -> Scope | None:
        """Return the scope that was chosen. None: nothing was."""
        if not self.is_valid():
            return None
        chosen = self.cleaned_data
        if not any(chosen.values()):
            return None
        return Scope(chosen["account"], chosen["symbol"], chosen["strategy"], chosen["order"])


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=500,
        label=gettext_lazy("Reason"),
        error_messages={"required": gettext_lazy("A reason is required.")},
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )


def stop_page(request: HttpRequest) -> HttpResponse:
    """Show the page, or halt the scope and record its cancels."""
    _require(request)
    if request.method == "POST" and "resume" in request.POST:
        return _resume(request)
    chooser = ScopeForm(
        request.POST if request.method == "POST" else request.GET, user=request.user
    )
    scope = chooser.scope
    _require_scope(request, scope)
    reasons = ReasonForm(request.POST if request.method == "POST" else None)
    if scope is not None and request.method == "POST" and reasons.is_valid():
        return _stop(request, scope, reasons.cleaned_data["reason"])
    total = request.GET.get("total", "")
    context = {
        "title": _("Stop"),
        "chooser": chooser
        if chooser.errors
        else ScopeForm(initial=_given(chooser), user=request.user),
        "scope": scope,
        "reasons": reasons,
        "halts": _halts(request.user),
        "may_resume": request.user.has_perm("exchanges.resume_trading"),
        "may_cancel": request.user.has_perm("orders.cancel_order"),
    }
    if scope is not None:
        context |= {"name": scope_name(scope), "query": _query(scope)}
        if total.isdecimal():
            context |= _proof_context(scope, int(total), None)
        else:
            extents = _extents(scope)
            context |= {
                "fields": _fields(scope).items(),
                "extents": extents,
                "count": sum(one["count"] for one in extents),
            }
    return render(request, "desk/stop/page.html", {**admin.site.each_context(request), **context})


@require_POST
def ask_again(request: HttpRequest) -> HttpResponse:
    """Cancel the open orders, ask the exchange, and show the rest."""
    _require(request)
    scope = ScopeForm(request.POST, user=request.user).scope
    _require_scope(request, scope)
    total = request.POST.get("total", "")
    if scope is None or not total.isdecimal() or not request.user.has_perm("orders.cancel_order"):
        raise PermissionDenied
    proof = stopping.press_on(
        scope,
        reason=_("stop: %(scope)s") % {"scope": scope_name(scope)},
        actor=request.user.get_username(),
        give_up_at=clock.monotonic() + ROUND_SECONDS,
    )
    return render(request, "desk/stop/proof.html", _proof_context(scope, int(total), proof))


def _require(request: HttpRequest) -> None:
    if not request.user.has_perm("exchanges.halt_trading"):
        raise PermissionDenied


def _require_scope(request: HttpRequest, scope: Scope | ScopedHalt | None) -> None:
    """Refuse a scope that reaches beyond the accounts of the person."""
    if scope is None:
        return
    account_id = scope.account.pk if scope.account else None
    if isinstance(scope, Scope) and scope.order:
        order = Order.objects.filter(pk=scope.order).first()
        account_id = order.account_id if order else account_id
    allowed = (
        has_every_account(request.user)
        if account_id is None
        else may_act_on(request.user, account_id)
    )
    if not allowed:
        raise PermissionDenied


def _stop(request: HttpRequest, scope: Scope, reason: str) -> HttpResponse:
    actor = request.user.get_username()
    stopping.halt(scope, reason=reason, actor=actor)
    if scope.order is None:
        messages.success(request, _("Halted: %(scope)s.") % {"scope": scope_name(scope)})
    address = reverse("stop")
    if not request.user.has_perm("orders.cancel_order"):
        return HttpResponseRedirect(address)
    total = stopping.request_all_cancels(scope, reason=reason, actor=actor)
    return HttpResponseRedirect(f"{address}?{_query(scope)}&{urlencode({'total': total})}")


def _resume(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("exchanges.resume_trading"):
        raise PermissionDenied
    if page := ask_again_who(request):
        return page
    key = request.POST["resume"]
    row = get_object_or_404(ScopedHalt, pk=int(key) if key.isdecimal() else 0)
    _require_scope(request, row)
    reason, name = request.POST.get("reason", "").strip(), request.user.get_username()
    if not reason:
        messages.error(request, _("A reason is required."))
    elif answer := resume_halt(row, reason=reason[:500], actor=name, maker=name):
        if isinstance(answer, ChangeDraft):
            say_draft(request, answer)
            return HttpResponseRedirect(reverse("stop"))
        text = _("Resumed: %(scope)s.")
        messages.success(request, text % {"scope": scope_name(row)})
    else:
        messages.error(request, _("The halt has changed since. Nothing was resumed."))
    return HttpResponseRedirect(reverse("stop"))


# -- the contents of the page ----------------------------------------------------------------------


def _given(chooser: ScopeForm) -> dict[str, Any]:
    return {name: value for name, value in chooser.data.items() if name in chooser.fields}


def _query(scope: Scope) -> str:
    return urlencode(_fields(scope))


def _fields(scope: Scope) -> dict[str, str | UUID]:
    """Return the fields of the form that choose this scope."""
    given: dict[str, str | UUID | None] = {
        "account": scope.account.name if scope.account else "",
        "symbol": scope.symbol,
        "strategy": scope.strategy,
        "order": scope.order,
    }
    chosen = {name: value for name, value in given.items() if value}
    return chosen or {"everything": "on"}


def _halts(user: Any) -> list[dict[str, Any]]:
    """Return the halts that stand for the accounts of the person, the widest first."""
    found: list[dict[str, Any]] = []
    everything = TradingHalt.objects.filter(pk=TradingHalt.ROW, is_halted=True).first()
    if everything:
        found.append(
            {
                "name": scope_name(Scope()),
                "who": everything.changed_by,
                "at": everything.changed_at,
                "reason": everything.reason,
                "link": reverse("admin:exchanges_tradinghalt_change", args=[everything.pk]),
            }
        )
    halted = accounts_of(user).filter(trading_state=TradingState.HALTED)
    found += [
        {
            "name": scope_name(Scope(account)),
            "at": account.trading_state_changed_at,
            "reason": account.trading_state_reason,
            "link": reverse("admin:exchanges_exchangeaccount_change", args=[account.pk]),
        }
        for account in halted
    ]
    found += [
        {
            "name": scope_name(row),
            "who": row.halted_by,
            "at": row.halted_at,
            "reason": row.reason,
            "key": row.pk,
        }
        for row in ScopedHalt.objects.select_related("account")
        if row.account_id is None or may_act_on(user, row.account_id)
    ]
    return found


def _extents(scope: Scope) -> list[dict[str, Any]]:
    """Count the orders by account, and add up the money that they may still trade."""
    orders = list(scope.not_closed())
    quotes = _quote_assets(orders)
    accounts = {order.account_id: order.account for order in orders}
    known = money_of(accounts.values())
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    money: dict[tuple[int, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for order in orders:
        counts[order.account_id][_phase(order)] += 1
        account = order.account
        quote = quotes.get((account.exchange, account.environment, order.symbol), order.symbol)
        sums = money[order.account_id, order.side]
        sums[quote] = EXACT.add(sums[quote], remaining_money(order))
    return [
        {
            "account": account,
            "count": counts[key].total(),
            **counts[key],
            "buys": _texts(money[key, Side.BUY], known),
            "sells": _texts(money[key, Side.SELL], known),
        }
        for key, account in sorted(accounts.items(), key=lambda pair: pair[1].name)
    ]


def _phase(order: Order) -> str:
    if order.status in states.OPEN:
        return "working"
    return "in_flight" if order.status == Status.PENDING_NEW else "waiting"


def _texts(sums: dict[str, Decimal], money: frozenset[str]) -> list[str]:
    return [money_text(asset, amount, money) for asset, amount in sorted(sums.items())]


def remaining_money(order: Order) -> Decimal:
    """Return the money that the order may still trade. Zero for a market order by quantity."""
    if order.quote_quantity is not None:
        return max(EXACT.subtract(order.quote_quantity, order.filled_quote_quantity), ZERO)
    if order.quantity is None or order.price is None:
        return ZERO
    left = max(EXACT.subtract(order.quantity, order.filled_quantity), ZERO)
    return EXACT.multiply(left, order.price)


def _quote_assets(orders: list[Order]) -> dict[tuple[str, str, str], str]:
    rows = Instrument.objects.filter(symbol__in={order.symbol for order in orders})
    return {(row.exchange, row.environment, row.symbol): row.quote_asset for row in rows}


def _proof_context(scope: Scope, total: int, proof: Proof | None) -> dict[str, Any]:
    left = proof.left if proof else [*scope.not_closed()]
    return {
        "scope": scope,
        "name": scope_name(scope),
        "total": max(total, len(left)),
        "closed": max(total - len(left), 0),
        "left": left[:SHOWN],
        "left_count": len(left),
        "more": max(len(left) - SHOWN, 0),
        "troubles": proof.troubles if proof else {},
        "is_proven": proof is not None and proof.is_complete,
        "is_asked": proof is not None,
        "asked_at": clock.now(),
        "fields": _fields(scope).items(),
    }


def admin_stop(request: HttpRequest) -> HttpResponse:
    """Show the stop page to the people who may use the admin."""
    return admin.site.admin_view(stop_page)(request)


def admin_ask_again(request: HttpRequest) -> HttpResponse:
    return admin.site.admin_view(ask_again)(request)
