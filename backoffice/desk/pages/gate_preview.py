"""Preview how the gate would answer an order, without sending or recording anything."""

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

from backoffice.desk.lists.columns import field_name
from backoffice.people.grants import accounts_of
from exchanges.models import ExchangeAccount
from exchanges.types import OrderType, Side, TimeInForce
from orders.gate.preview import HELD, WAITS, GatePreview, simulate_gate
from orders.intents import FIELDS, InvalidIntent
from orders.models import Order

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
    """Take the arguments of `orders.submit_order` as text, so that `orders.intents` checks them."""

    account = forms.ModelChoiceField(
        label=field_name(Order, "account"),
        queryset=ExchangeAccount.objects.none(),  # those of the person
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

    answer: GatePreview | None = None
    own_strategy: str | None = None  # instead of the one that was typed

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        account: Any = self.fields["account"]
        account.queryset = accounts_of(user)

    def clean(self) -> dict[str, Any]:
        """Ask the gate if every field is valid. A malformed argument is an error of its field."""
        given: dict[str, Any] = super().clean() or {}
        if not self.errors:
            arguments = {name: str(given[name]) for name in FIELDS if given.get(name)}
            arguments.pop("intent_id", None)
            try:
                self.answer = simulate_gate(arguments, strategy=self.own_strategy)
            except InvalidIntent as error:
                field, _colon, problem = str(error).partition(": ")
                self.add_error(field if field in self.fields else None, problem)
        return given


def preview_gate(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Answer with the page. It is a GET, so that people can keep and share its address."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    form = OrderForm(request.GET if "symbol" in request.GET else None, user=request.user)
    answer = form.answer if form.is_valid() else None
    context = {
        **site.each_context(request),
        "title": _("Ask the gate"),
        "form": form,
        "answer": answer,
        "verdict": answer and verdict_of(answer),
        "figures": answer and figures_of(form, answer),
    }
    request.current_app = site.name
    return TemplateResponse(request, "desk/ask_gate.html", context)


def verdict_of(answer: GatePreview) -> tuple[str, str]:
    """Return the answer in a word, and the color of the word."""
    if answer.passes:
        return _("allowed"), "success"
    return (_("would wait"), "warning") if answer.code in (WAITS, HELD) else (_("denied"), "danger")


def figures_of(form: OrderForm, answer: GatePreview) -> list[tuple[Any, str, Decimal | None]]:
    """Return name, requested text and value as sent of each number in the form."""
    return [
        (form.fields[name].label, form.cleaned_data[name], getattr(answer.amounts, name, None))
        for name in _FIGURES
        if form.cleaned_data[name]
    ]
