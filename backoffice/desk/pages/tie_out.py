"""Show for each account and asset whether the fills explain the exchange's balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import F, Max, Q, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from backoffice.desk.lists.columns import number, utc
from backoffice.desk.lists.numbers import decimals_of, rounded
from backoffice.people.grants import accounts_of
from exchanges.models import AccountSync, Balance, ExchangeAccount, Instrument
from exchanges.types import Side
from orders.models import Fill
from orders.positions.tie_out import ZERO, Held, TieOut, Traded, tie_out

PERMISSIONS = ("exchanges.view_balance", "orders.view_fill")


@dataclass(frozen=True, slots=True)
class AccountTieOut:
    """The figures of one account, and the symbols whose fills are left out of them."""

    account: ExchangeAccount
    lines: list[TieOut]
    uncounted: list[str]  # no instrument names the assets, or a fill lacks its commission's asset


def show_tie_out(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Answer with the page, for every account of the person or for the one in the address."""
    if not request.user.has_perms(PERMISSIONS):
        raise PermissionDenied
    accounts = list(accounts_of(request.user))
    chosen = next((one for one in accounts if one.name == request.GET.get("account")), None)
    found = tie_outs([chosen] if chosen else accounts)
    context = {
        **site.each_context(request),
        "title": _("Tie-out of the balances"),
        "accounts": accounts,
        "chosen": chosen,
        "groups": [
            {
                "account": one.account,
                "rows": [row_of(line) for line in one.lines],
                "uncounted": ", ".join(one.uncounted),
            }
            for one in found
            if one.lines or one.uncounted
        ],
    }
    request.current_app = site.name
    return TemplateResponse(request, "desk/tie_out.html", context)


def tie_outs(accounts: Iterable[ExchangeAccount]) -> list[AccountTieOut]:
    """Return the figures of these accounts with four queries for any number of them.

    Only fills of the account's epoch count: before it, the exchange had other balances. The
    balances are read first, so a fill that arrives in between is newer than its balance.
    """
    accounts = list(accounts)
    were_read = set(
        AccountSync.objects.filter(
            account__in=accounts, balances_synced_at__isnull=False
        ).values_list("account_id", flat=True)
    )
    held: dict[int, dict[str, Held]] = defaultdict(dict)
    for row in Balance.objects.filter(account__in=accounts).order_by():
        held[row.account_id][row.asset] = Held(row.free, row.locked, row.reserved, row.updated_at)
    sums = _sums(accounts)
    assets = _assets({symbol for _account, symbol, *_ in sums})
    trades: dict[int, list[Traded]] = defaultdict(list)
    uncounted: dict[int, set[str]] = defaultdict(set)
    places = {one.pk: (one.exchange, one.environment) for one in accounts}
    for account_id, symbol, side, asset, quantity, quote, commission, last_at in sums:
        pair = assets.get((*places[account_id], symbol))
        if pair is None or (commission and not asset):
            uncounted[account_id].add(symbol)
        if pair is not None:
            fee = commission if asset else ZERO
            one = Traded(*pair, Side(side), quantity, quote, fee, asset, last_at)
            trades[account_id].append(one)
    return [
        AccountTieOut(
            one,
            tie_out(
                trades[one.pk],
                held[one.pk],
                if_unlisted=Held(ZERO, ZERO) if one.pk in were_read else None,
            ),
            sorted(uncounted[one.pk]),
        )
        for one in accounts
    ]


_Sum = tuple[int, str, str, str, Decimal, Decimal, Decimal, datetime]


def _sums(accounts: list[ExchangeAccount]) -> list[_Sum]:
    """Add up the fills of the accounts' epochs by account, symbol, side and commission asset."""
    rows = Fill.objects.filter(
        Q(epoch__gte=F("account__epoch")), account__in=[one.pk for one in accounts]
    )
    names = ("account_id", "symbol", "side", "commission_asset")
    return list(
        rows.order_by()
        .values(*names)
        .annotate(
            bought=Sum("quantity"),
            paid=Sum("quote_quantity"),
            fees=Sum("commission"),
            last_at=Max("traded_at"),
        )
        .values_list(*names, "bought", "paid", "fees", "last_at")
    )


def _assets(symbols: set[str]) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return base and quote asset by place and symbol."""
    found = Instrument.objects.filter(symbol__in=symbols).values_list(
        "exchange", "environment", "symbol", "base_asset", "quote_asset"
    )
    return {
        (exchange, environment, symbol): (base, quote)
        for exchange, environment, symbol, base, quote in found
    }


def row_of(line: TieOut) -> dict[str, Any]:
    """Write the figures of one asset for the template, each with the same number of decimals."""
    write = _writer(line)
    verdict, color = verdict_of(line)
    return {
        "asset": line.asset,
        "bought": number(line.bought, write),
        "sold": number(line.sold, write),
        "fees": number(line.fees, write),
        "explained": number(line.explained, write),
        "difference": number(line.difference, write),
        "total": number(line.total, write),
        "free": number(line.held.free if line.held else None, write),
        "locked": number(line.held.locked if line.held else None, write),
        "reserved": number(line.held.reserved if line.held else None, write),
        "as_of": utc(line.held.as_of if line.held else None),
        "verdict": verdict,
        "color": color,
    }


def _writer(line: TieOut) -> Callable[[Decimal], str]:
    """Return the function that writes the digits that the asset uses, so that sums are exact."""
    figures = [line.bought, line.sold, line.fees]
    if line.held is not None:
        figures += [line.held.free, line.held.locked, line.held.reserved]
    decimals = max(decimals_of(figure) or 0 for figure in figures)
    return lambda value: rounded(value, decimals)


def verdict_of(line: TieOut) -> tuple[str, str]:
    """Return the name of the difference, and its color."""
    if line.difference is None:
        return _("balances never read"), "warning"
    if line.is_behind:
        return _("balance older than the last fill"), "warning"
    if not line.difference:
        return _("explained by fills"), "success"
    if line.difference > 0:
        return _("opening balance or deposits"), "info"
    return _("withdrawals or missing fills"), "warning"
