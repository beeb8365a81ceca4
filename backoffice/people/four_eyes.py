"""Decide whether a person may check another's act: the maker is never the checker."""

from __future__ import annotations

from typing import Any

from backoffice.people.models import LinkedLogin
from orders.intents import BY_HAND
from orders.models import Order


def maker_of(order: Order) -> str:
    """Return the name of the person who placed the order by hand, or an empty text."""
    return order.strategy.removeprefix(BY_HAND) if order.strategy.startswith(BY_HAND) else ""


def is_same_human(name: str, other: str) -> bool:
    """Return whether two logins belong to one human being."""
    if name.casefold() == other.casefold():
        return True
    rows = LinkedLogin.objects.filter(login__username__in=[name, other])
    humans = [human.strip().casefold() for human in rows.values_list("human", flat=True)]
    return len(humans) == 2 and humans[0] == humans[1]


def may_check(user: Any, maker: str) -> bool:
    """Return whether the user is another human being than the maker. A bot's order has none."""
    return not maker or not is_same_human(user.get_username(), maker)
