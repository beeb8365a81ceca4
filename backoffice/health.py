"""`/healthz`: is the process alive? `/readyz`: can it take, send and follow orders?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from celery import current_app
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django.views.defaults import server_error

from backoffice.duty_states import DutyState, duty_states
from backoffice.web.bearer import may_read_details
from exchanges import clock
from exchanges.limits import redis
from exchanges.models import ExchangeAccount
from orders.db_retry import is_database_away

log = structlog.get_logger(__name__)

HEALTH_PATH = "/healthz"
OK = "ok"
BROKER_PATIENCE_SECONDS = 1.0


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """Report that the process is alive. The database, broker and exchange don't count here."""
    return HttpResponse("ok\n", content_type="text/plain")


def answer_health_first(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Return a middleware that answers `/healthz` under any host name.

    A container's health check and a load balancer's probe connect by IP address. `ALLOWED_HOSTS`
    rarely lists that address, and a healthy process must not be restarted because of it. The
    answer is a constant, so a forged header gains nothing. Put it first in `MIDDLEWARE`.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        return healthz(request) if request.path_info == HEALTH_PATH else get_response(request)

    return answer


# -- /readyz -------------------------------------------------------------------------------------


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if orders can be taken, sent and followed, else 503.

    Only a request that may read details gets the missing parts. The log always has them. Nothing
    here asks an exchange: the heartbeats in the database show that the workers run.
    """
    checks = {"database": OK, "broker": _broker(), "limits": _limits()}
    try:
        checks |= _heartbeats()
    except Error as error:
        # The database's own message names hosts and users, so it goes to the log only.
        log.warning("database_does_not_answer", error=str(error))
        connection.close()
        checks["database"] = f"does not answer ({type(error).__name__})"
    missing = {name: answer for name, answer in checks.items() if answer != OK}
    if missing:
        log.warning("not_ready", **missing)
    body: dict[str, Any] = {"ready": not missing}
    if may_read_details(request):
        body["checks"] = checks
    return JsonResponse(body, status=503 if missing else 200)


def _heartbeats() -> dict[str, str]:
    """Return the state of each duty and of each enabled account's last sync with its exchange.

    In eager mode there is no beat and no worker to leave a heartbeat.
    """
    accounts = list(
        ExchangeAccount.objects.filter(is_enabled=True).select_related("sync").order_by("name")
    )
    if current_app.conf.task_always_eager:
        return {}
    now = clock.now()
    checks = {f"exchange:{row.name}": _sync(row.last_synced_at, now) for row in accounts}
    return checks | {f"duty:{state}": _duty(state) for state in duty_states()}


def _sync(synced_at: datetime | None, now: datetime) -> str:
    """Return whether the account was compared with its exchange lately, with an answer to each
    question.
    """
    if synced_at is None:
        return "never synced"
    age = (now - synced_at).total_seconds()
    return OK if age <= settings.MAX_UNSYNCED_SECONDS else f"last synced {age:.0f} s ago"


def _duty(state: DutyState) -> str:
    if not state.stands_still:
        return OK
    return "never ran" if state.age is None else f"last ran {state.age:.0f} s ago"


def unavailable_or_error(request: HttpRequest) -> HttpResponse:
    """Answer for a page that failed: 503 while the database is away or busy, else 500."""
    error = sys.exc_info()[1]
    if not is_database_away(error):
        return server_error(request)
    log.warning("page_unavailable", path=request.path, error=type(error).__name__)
    words = [_("The database does not answer at the moment. Please try again in a few seconds.")]
    if request.method == "POST":
        words += [
            _("It is not known whether your last action was recorded."),
            _(
                "To stop trading without the database, stop the workers and the listener, or"
                " disable the API key at the exchange."
            ),
        ]
    return HttpResponse(
        "\n".join(words) + "\n",
        content_type="text/plain; charset=utf-8",
        status=503,
        headers={"Retry-After": "5"},
    )


def _broker() -> str:
    if current_app.conf.task_always_eager:
        return OK  # tasks run in the caller's process
    waits = {
        "socket_timeout": BROKER_PATIENCE_SECONDS,
        "socket_connect_timeout": BROKER_PATIENCE_SECONDS,
    }
    try:
        with current_app.connection_for_write(transport_options=waits) as broker:
            broker.ensure_connection(
                max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_PATIENCE_SECONDS
            )
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises
        log.warning("broker_does_not_answer", error=type(error).__name__)
        return f"does not answer ({type(error).__name__})"
    return OK


def _limits() -> str:
    """Return whether the Redis of the shared limits answers. Without it workers place nothing."""
    if current_app.conf.task_always_eager:
        return OK
    try:
        redis.client().ping()
    except Exception as error:  # noqa: BLE001  whatever the client raises
        log.warning("limits_redis_does_not_answer", error=type(error).__name__)
        return f"does not answer ({type(error).__name__})"
    return OK
