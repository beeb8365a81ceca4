"""Place an order by hand: the symbol's rules, the price, the gate's answer, then the order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from backoffice.desk.lists.columns import duration
from backoffice.desk.pages.gate_preview import OrderForm, figures_of, verdict_of
from exchanges import clock
from exchanges.acts import record_act
from exchanges.models import Instrument, LastPrice, MidPrice
from exchanges.types import plain
from orders import services
from orders.execution import enqueue_place
from orders.intents import (
    BY_HAND,
    FIELDS,
    HAND_PREFIX,
    Intent,
    IntentConflict,
    InvalidIntent,
    parse_intent,
)
from orders.models import Order

PERMISSION = "orders.place_by_hand"
LONGEST_NAME = 64 - len(BY_HAND)


class HandOrderForm(OrderForm):
    """Ask for the order, for its deadline, and for the reason."""

    minutes = forms.IntegerField(
        label=gettext_lazy("Send within minutes"),
        min_value=1,
        max_value=1440,
        initial=15,
        widget=UnfoldAdminIntegerFieldWidget(),
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=500, widget=UnfoldAdminTextInputWidget()
    )
    intent_id = forms.RegexField(rf"^{HAND_PREFIX}[0-9a-f]{{32}}\Z", widget=forms.HiddenInput)

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        del self.fields["strategy"]  # It names the person.
        self.own_strategy = f"{BY_HAND}{user.get_username()}"
        self.initial.setdefault("intent_id", f"{HAND_PREFIX}{uuid4().hex}")

    def intent(self, now: datetime) -> Intent:
        """Return the intent, marked with the person."""
        given = self.cleaned_data
        arguments = {name: str(given[name]) for name in FIELDS if given.get(name)}
        arguments["place_within_seconds"] = given["minutes"] * 60
        return replace(parse_intent(arguments, now=now), strategy=self.own_strategy or BY_HAND)


def place_by_hand(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Show the form and the gate's answer. Place the order once the person confirms it."""
    user = request.user
    if not user.has_perm(PERMISSION):
        raise PermissionDenied
    if len(user.get_username()) > LONGEST_NAME:
        messages.error(request, _("Your login name is too long to mark an order with it."))
        return HttpResponseRedirect(reverse("admin:index"))
    form = HandOrderForm(request.POST if request.method == "POST" else None, user=user)
    is_valid = form.is_bound and form.is_valid()
    if is_valid and "confirmed" in request.POST:
        order = _place(request, form)
        if order is not None:
            return HttpResponseRedirect(reverse("admin:orders_order_change", args=[order.pk]))
    answer = form.answer if is_valid else None
    context = {
        **site.each_context(request),
        "title": _("Place an order by hand"),
        "form": form,
        "answer": answer,
        "verdict": answer and verdict_of(answer),
        "figures": answer and figures_of(form, answer),
        "facts": _facts(form) if is_valid else [],
    }
    request.current_app = site.name
    return TemplateResponse(request, "desk/order_by_hand.html", context)


def _place(request: HttpRequest, form: HandOrderForm) -> Order | None:
    """Record the order with the act, and let a worker place it. A form sent twice is one order."""
    name, given = request.user.get_username(), form.cleaned_data
    try:
        with transaction.atomic():
            order, is_new = services.record_order(form.intent(clock.now()))
            if is_new:
                transaction.on_commit(partial(enqueue_place, order.pk))
                record_act(
                    "place_order",
                    actor=name,
                    subject=f"order:{order.pk}",
                    account=order.account.name,
                    reason=given["reason"],
                    after={key: str(given[key]) for key in FIELDS if given.get(key)},
                )
    except (InvalidIntent, IntentConflict) as error:
        form.add_error(None, str(error))
        return None
    messages.success(request, _("The order is recorded. The gate decides whether it is sent."))
    return order


def _facts(form: HandOrderForm) -> list[tuple[Any, str]]:
    """Return the symbol's rules and the prices that we know, with their age."""
    account, symbol = form.cleaned_data["account"], form.intent(clock.now()).symbol
    where = {"exchange": account.exchange, "environment": account.environment, "symbol": symbol}
    facts: list[tuple[Any, str]] = []
    instrument = Instrument.objects.filter(**where).first()
    if instrument is not None:
        rules = instrument.rules
        for title, kind, name in (
            (_("Tick size"), "PRICE_FILTER", "tickSize"),
            (_("Step size"), "LOT_SIZE", "stepSize"),
            (_("Minimum notional"), "NOTIONAL", "minNotional"),
        ):
            if value := rules.figure(kind, name):
                facts.append((title, plain(value)))
    best = MidPrice.objects.filter(**where).first()
    if best is not None:
        age = _("asked %(age)s ago") % {"age": duration(clock.now() - best.asked_at)}
        facts.append((_("Best bid and ask"), f"{plain(best.bid)} / {plain(best.ask)} ({age})"))
    last = LastPrice.objects.filter(**where).first()
    if last is not None:
        age = duration(clock.now() - last.asked_at)
        facts.append(
            (_("Last price"), f"{plain(last.price)} ({_('asked %(age)s ago') % {'age': age}})")
        )
    return facts
