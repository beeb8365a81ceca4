"""Do the duties that no worker does, because the broker is silent or the workers are gone.

The listener calls this: it holds the keys and needs no broker. It resolves, cancels and completes,
but places nothing, because without the broker's server the shared limits may be away, too. An
order's step is claimed, so a worker that is only late does no step twice.
"""

from __future__ import annotations

from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Exists, OuterRef

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.models import Order
from orders.states import OrderStatus
from orders.sweep import sweep_account

log = structlog.get_logger(__name__)

# A sweep that runs at all comes to an order sooner.
_OVERDUE_SECONDS = 4.0


def neglected_accounts() -> list[ExchangeAccount]:
    """Return the accounts with a step that is long overdue: an answer, a cancel, a trade."""
    seconds = max(_OVERDUE_SECONDS, 2 * settings.RESOLVE_INTERVAL_SECONDS)
    overdue = Order.objects.filter(
        account=OuterRef("pk"), next_check_at__lt=clock.now() - timedelta(seconds=seconds)
    ).exclude(status=OrderStatus.CREATED)
    return list(ExchangeAccount.objects.filter(Exists(overdue)).order_by("pk"))


def stand_in(account: ExchangeAccount) -> None:
    """Give the account's overdue orders their next step."""
    counts = sweep_account(account, may_place=False)
    log.warning("duties_done_by_the_listener", account=account.name, **counts)
