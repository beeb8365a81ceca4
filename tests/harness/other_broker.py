"""Let this process, which plays the bot, use another broker for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kombu import pools

from backoffice.celery import app
from exchanges.limits.sentinel_url import celery_options, celery_url


@contextmanager
def using(broker: str, results: str, **more: Any) -> Iterator[None]:
    """Send messages to `broker` and read results from `results`, as a process with these URLs."""
    own = {
        "broker_url": celery_url("CELERY_BROKER_URL", broker),
        "result_backend": celery_url("CELERY_RESULT_BACKEND", results),
        "broker_transport_options": celery_options("CELERY_BROKER_URL", broker),
        "result_backend_transport_options": celery_options("CELERY_RESULT_BACKEND", results),
        **more,
    }
    usual = {name: app.conf[name] for name in own}
    _change(own)
    try:
        yield
    finally:
        _change(usual)


def _change(settings: dict[str, Any]) -> None:
    app.conf.update(settings)
    pools.reset()  # type: ignore[no-untyped-call]
    app.__dict__.pop("amqp", None)  # the queues and the pool of producers
    app._pool = app._backend_cache = None
    app._local.__dict__.pop("backend", None)
