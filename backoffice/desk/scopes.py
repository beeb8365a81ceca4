"""Name the part of trading that a stop or a halt is about."""

from __future__ import annotations

from django.utils.translation import gettext as _

from exchanges.models import ScopedHalt
from orders.models import Order
from orders.stopping import Scope


def scope_name(scope: Scope | ScopedHalt) -> str:
    """Return the scope's name as people read it."""
    if isinstance(scope, Scope) and scope.order is not None:
        order = Order.objects.filter(pk=scope.order).first()
        return _("order %(intent)s") % {"intent": order.intent_id if order else scope.order}
    parts = []
    if scope.strategy:
        parts.append(_("strategy %(name)s") % {"name": scope.strategy})
    if scope.symbol:
        parts.append(_("symbol %(name)s") % {"name": scope.symbol})
    if scope.account:
        parts.append(_("account %(name)s") % {"name": scope.account.name})
    elif not parts:
        return _("everything, on every account and future ones")
    else:
        parts.append(_("on every account"))
    return ", ".join(parts)
