"""The page that asks the gate: an order as a bot would send it, and what would become of it. Nothing is recorded."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from exchanges.models import ExchangeAccount
from exchanges.pages import field_name
from exchanges.types import OrderType, Side, TimeInForce
from orders.intents import InvalidIntent
from orders.models import Order
from orders.simulating import WAITS, Answer, simulate_gate

PERMISSION = "orders.simulate_gate"
_FIGURES = ("quantity", "quote_quantity", "price", "stop_price")


def _text(label: Any, *, required: bool = False, **attributes: str) -> forms.CharField:
    widget = UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", **attributes})
    return forms.CharField(label=label, required=required, max_length=64, widget=widget)


def _choice(label: Any, words: Any, *, required: bool = True) -> forms.ChoiceField:
    choices = [(str(word), str(word)) for word in words]
    none = [] if required else [("", "–")]
    return forms.ChoiceField(
        label=label, choices=[*none, *choices], required=required, widget=UnfoldAdminSelectWidget()
    )


class OrderForm(forms.Form):
    """The arguments of `orders.submit_order`, as text: what is malformed, `orders.intents` says."""

    account = forms.ModelChoiceField(
        label=field_name(Order, "account"),
        queryset=ExchangeAccount.objects.order_by("name"),
        to_field_name="name",
        empty_label=None,
        widget=UnfoldAdminSelectWidget(),
    )
    symbol = _text(field_name(Order, "symbol"), required=True, placeholder="BTCUSDT")
    side = _choice(field_name(Order, "side"), Side)
    order_type = _choice(field_name(Order, "order_type"), OrderType)
    quantity = _text(field_name(Order, "quantity"), inputmode="decimal")
    quote_quantity = _text(field_name(Order, "quote_quantity"), inputmode="decimal")
    price = _text(field_name(Order, "price"), inputmode="decimal")
    stop_price = _text(field_name(Order, "stop_price"), inputmode="decimal")
    time_in_force = _choice(field_name(Order, "time_in_force"), TimeInForce, required=False)
    strategy = _text(field_name(Order, "strategy"))

    answer: Answer | None = None

    def clean(self) -> dict[str, Any]:
        """Ask, where every field is filled in as it should be; a malformed argument is the error of its field."""
        given: dict[str, Any] = super().clean() or {}
        if not self.errors:
            arguments = {name: str(value) for name, value in given.items() if value}
            try:
                self.answer = simulate_gate(arguments)
            except InvalidIntent as error:
                field, _colon, problem = str(error).partition(": ")
                self.add_error(field if field in self.fields else None, problem)
        return given


def ask_gate(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """A question, so it is a GET: its address can be kept, and sent to somebody."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    form = OrderForm(request.GET if "symbol" in request.GET else None)
    answer = form.answer if form.is_valid() else None
    context = {
        **site.each_context(request),
        "title": _("Ask the gate"),
        "form": form,
        "answer": answer,
        "verdict": answer and _verdict(answer),
        "figures": answer and _figures(form, answer),
    }
    request.current_app = site.name
    return TemplateResponse(request, "desk/ask_gate.html", context)


def _verdict(answer: Answer) -> tuple[str, str]:
    """In a word, and its colour."""
    if answer.passes:
        return _("allowed"), "success"
    return (_("waits"), "warning") if answer.code == WAITS else (_("denied"), "danger")


def _figures(form: OrderForm, answer: Answer) -> list[tuple[Any, str, Decimal | None]]:
    """Name, as asked for and as the exchange would see it, of each figure that was given."""
    return [
        (form.fields[name].label, form.cleaned_data[name], getattr(answer.figures, name, None))
        for name in _FIGURES
        if form.cleaned_data[name]
    ]
