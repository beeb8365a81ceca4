"""The verb that marks a symbol of an account as gone from the exchange."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextInputWidget

from backoffice.desk.mixins import Line, ReasonForm, ReasonVerb
from exchanges.models import ExchangeAccount, Instrument, SymbolCatchUp
from orders import states
from orders.models import Order
from orders.reconciliation import symbols


class SymbolForm(ReasonForm):
    """Ask for the symbol and the reason."""

    symbol = forms.CharField(
        label=gettext_lazy("Symbol"), max_length=32, widget=UnfoldAdminTextInputWidget
    )
    field_order = ("symbol", "reason")

    def clean_symbol(self) -> str:
        return str(self.cleaned_data["symbol"]).upper()


class SymbolVerb(ReasonVerb):
    """Mixin for the accounts' ModelAdmin: mark one of the account's symbols as gone."""

    get_object: Any

    def has_mark_gone_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("orders.mark_symbol_gone")

    @action(
        description=gettext_lazy("Mark a symbol as gone"),
        permissions=["mark_gone"],
        url_path="gone",
        icon="link_off",
    )
    def mark_gone(self, request: HttpRequest, object_id: str) -> HttpResponse:
        account = self.get_object(request, object_id)
        if account is None:
            raise Http404
        return self.ask_then(
            request,
            lambda answer: _mark(request, account, answer),
            back=reverse("admin:exchanges_exchangeaccount_change", args=[object_id]),
            template="desk/ask_more.html",
            form_class=SymbolForm,
            title=_("Mark a symbol as gone"),
            question=_(
                "Mark a symbol as gone? Comparisons then send only one query about it, until the"
                " exchange knows it again or a person closes the break. Its orders don't change."
            ),
            lines=[Line(account.name, account.get_environment_display())],
            button_variant="danger",
        )


def _mark(request: HttpRequest, account: ExchangeAccount, answer: dict[str, Any]) -> bool:
    symbol, actor = answer["symbol"], request.user.get_username()
    words = {"account": account.name, "symbol": symbol}
    if not _is_known(account, symbol):
        messages.error(request, _("%(account)s has no symbol %(symbol)s.") % words)
        return False
    if not symbols.mark_gone(account, symbol, reason=answer["reason"], actor=actor):
        messages.warning(request, _("%(account)s: %(symbol)s was marked as gone before.") % words)
        return True
    count = Order.objects.filter(account=account, symbol=symbol, status__in=[*states.OPEN]).count()
    text = _("%(account)s: %(symbol)s is marked as gone. Its open orders: %(count)d.")
    messages.success(request, text % {**words, "count": count})
    return True


def _is_known(account: ExchangeAccount, symbol: str) -> bool:
    """Return whether the account has traded the symbol, or may trade it."""
    return (
        SymbolCatchUp.objects.filter(account=account, symbol=symbol).exists()
        or Order.objects.filter(account=account, symbol=symbol).exists()
        or Instrument.objects.filter(
            exchange=account.exchange, environment=account.environment, symbol=symbol
        ).exists()
    )
