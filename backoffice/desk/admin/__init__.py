"""Every page of the admin, one module a model. Django imports this package to find them."""

from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from backoffice.desk.admin import (
    account_grants,
    accounts,
    balances,
    breakers,
    breaks,
    drafts,
    duties,
    events,
    fills,
    instruments,
    journal,
    leases,
    orders,
    positions,
    review_rules,
    risk_limits,
    trading_halt,
    work_queue,
)

__all__ = [
    "account_grants",
    "accounts",
    "balances",
    "breakers",
    "breaks",
    "drafts",
    "duties",
    "events",
    "fills",
    "instruments",
    "journal",
    "leases",
    "orders",
    "positions",
    "review_rules",
    "risk_limits",
    "trading_halt",
    "work_queue",
]

admin.site.index_title = _("Overview")
