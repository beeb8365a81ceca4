"""Enqueue readings of the exchange for the workers that may wait for it."""

from __future__ import annotations

from typing import Any

import structlog
from celery import current_app

from exchanges.acts import is_person_acting, record_act
from exchanges.duties import repeated
from exchanges.models import ExchangeAccount

log = structlog.get_logger(__name__)


def enqueue_reconciliation(account: ExchangeAccount, *, requested_by: str) -> bool:
    """Enqueue a reconciliation. Return False if the broker didn't take the message."""
    log.info("reconciliation_requested", account=account.name, requested_by=requested_by)
    if not _enqueue("orders.reconcile_account", account):
        return False
    if is_person_acting():
        record_act(
            "reconcile",
            actor=requested_by,
            subject=f"account:{account.name}",
            account=account.name,
        )
    return True


def enqueue_balances(account: ExchangeAccount, *, every: float) -> bool:
    """Enqueue a reading of the balances. Return False if the broker didn't take the message.

    A worker that finds several such messages reads once in `every` seconds. It is a duty, because
    orders wait for the balances, and a comparison may occupy the other workers for minutes.
    """
    return _enqueue("exchanges.sync_balances", account, queue="duties", **repeated(every))


def _enqueue(task: str, account: ExchangeAccount, **options: Any) -> bool:
    try:
        # By name, because `orders.tasks` is a layer above this package.
        current_app.loader.import_default_modules()
        current_app.tasks[task].apply_async((account.name,), ignore_result=True, **options)
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises
        log.warning("enqueue_failed", task=task, error=type(error).__name__)
        return False
    return True
