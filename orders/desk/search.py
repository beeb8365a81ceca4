"""One search box for every id that a person may hold in hand, by index look-ups instead of a scan."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

from django.db import connection
from django.db.models import Q, QuerySet

from exchanges.models import ExchangeAccount, Instrument
from orders.models import ExchangeOrder, Fill, Order

MAX_WORDS = 20
MAX_FOUND = 500
MIN_PREFIX = 3
# Behind every character of the intent id's alphabet.
_AFTER_ANY = "\U0010ffff"


def find_orders(text: str) -> set[UUID]:
    """Primary keys of the orders that any of the words names, at most `MAX_FOUND`.

    A word is an order's UUID, an intent id or its beginning, a client order id, an exchange order id or a trade id;
    several may be pasted at once, parted by spaces, commas or semicolons.
    """
    found: set[UUID] = set()
    words = [word for word in re.split(r"[\s,;]+", text) if word]
    for word in words[:MAX_WORDS]:
        exact = set(_exact(word))
        found |= exact or set(_beginning(word))
    return set(sorted(found, reverse=True)[:MAX_FOUND])


def _exact(word: str) -> Iterator[UUID]:
    with suppress(ValueError):
        yield from Order.objects.filter(pk=UUID(word)).values_list("pk", flat=True)
    if len(word) > 64:  # longer than any of the columns
        return
    # The unique constraints start with the account: naming every account turns each look-up into a few index probes.
    accounts = list(ExchangeAccount.objects.values_list("pk", flat=True))
    yield from Order.objects.filter(account__in=accounts, intent_id=word).values_list("pk", flat=True)
    sent = ExchangeOrder.objects.filter(account__in=accounts)
    yield from sent.filter(client_order_id=word).values_list("order_id", flat=True)
    # The exchange numbers orders and trades per symbol.
    symbols = Instrument.objects.values("symbol")
    numbered = sent.filter(symbol__in=symbols, exchange_order_id=word).exclude(exchange_order_id="")
    yield from numbered.values_list("order_id", flat=True)
    trades = Fill.objects.filter(account__in=accounts, symbol__in=symbols, trade_id=word)
    yield from trades.values_list("order_id", flat=True)


def _beginning(word: str) -> QuerySet[Order, UUID]:
    if not MIN_PREFIX <= len(word) <= 64:
        return Order.objects.none().values_list("pk", flat=True)
    accounts = list(ExchangeAccount.objects.values_list("pk", flat=True))
    if connection.vendor == "sqlite":  # its LIKE knows no case and uses no index; its text compares by bytes
        starts = Q(intent_id__gte=word, intent_id__lt=word + _AFTER_ANY)
    else:
        starts = Q(intent_id__startswith=word)
    return Order.objects.filter(starts, account__in=accounts).values_list("pk", flat=True)[:MAX_FOUND]
