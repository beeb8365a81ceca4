"""What machines ask the back office: is it alive, can it work, how is it doing."""

from __future__ import annotations

import structlog
from celery import current_app
from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from backoffice.figures import BackOfficeCollector
from exchanges.models import ExchangeAccount
from exchanges.reachability import exchange_troubles

log = structlog.get_logger(__name__)

OK = "ok"
BROKER_PATIENCE_SECONDS = 1.0


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process is alive; says nothing about what it stands on."""
    return HttpResponse("ok\n", content_type="text/plain")


# -- /readyz -------------------------------------------------------------------------------------------------------


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Can orders be taken, sent and followed? 503, and what is missing, where they cannot."""
    accounts, database = _enabled_accounts()
    checks = {"database": database, "broker": _broker()}
    checks |= {f"exchange:{name}": trouble or OK for name, trouble in exchange_troubles(accounts).items()}
    missing = {name: answer for name, answer in checks.items() if answer != OK}
    if missing:
        log.warning("not_ready", **missing)
    return JsonResponse({"ready": not missing, "checks": checks}, status=503 if missing else 200)


def _enabled_accounts() -> tuple[list[ExchangeAccount], str]:
    """The accounts to ask about, and how the database is. Its own words name hosts and users: they stay in the log."""
    try:
        return list(ExchangeAccount.objects.filter(is_enabled=True)), OK
    except DatabaseError as error:
        log.warning("database_does_not_answer", error=str(error))
        connection.close()
        return [], f"does not answer ({type(error).__name__})"


def _broker() -> str:
    if current_app.conf.task_always_eager:
        return OK  # tasks run in the caller's process
    waits = {"socket_timeout": BROKER_PATIENCE_SECONDS, "socket_connect_timeout": BROKER_PATIENCE_SECONDS}
    try:
        with current_app.connection_for_write(transport_options=waits) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=BROKER_PATIENCE_SECONDS)
    except Exception as error:  # noqa: BLE001  whatever the broker's client raises
        log.warning("broker_does_not_answer", error=type(error).__name__)
        return f"does not answer ({type(error).__name__})"
    return OK


# -- /metrics ------------------------------------------------------------------------------------------------------


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text; for whoever sends `METRICS_TOKEN` as bearer, where that is set."""
    if not _may_read_metrics(request):
        return HttpResponse("METRICS_TOKEN is wanted as bearer\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BackOfficeCollector())
    try:
        text = generate_latest(registry)
    except DatabaseError as error:
        log.warning("database_does_not_answer", error=str(error))
        connection.close()
        return HttpResponse(f"the database does not answer ({type(error).__name__})\n", status=503)
    return HttpResponse(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _may_read_metrics(request: HttpRequest) -> bool:
    if not settings.METRICS_TOKEN:
        return True
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return scheme.lower() == "bearer" and constant_time_compare(token.strip(), settings.METRICS_TOKEN)
