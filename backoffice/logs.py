"""Configure structured logs: one line per event, JSON in production, readable on a terminal."""

from __future__ import annotations

import json
import logging
import logging.config

import orjson
import structlog

# At DEBUG these print headers, bodies, signed URLs and whole messages. Credentials must not reach a
# log at any level.
_NEVER_BELOW_WARNING = (
    "ccxt",
    "urllib3",
    "requests",
    "aiohttp",
    "websockets",
    "asyncio",
    "celery.pool",
    # Two lines for each message, besides our own: a twentieth of a worker's time.
    "celery.worker.strategy",
    "celery.app.trace",
)


def _as_json(event: object, **_: object) -> str:
    try:
        return orjson.dumps(event, default=repr).decode()
    except orjson.JSONEncodeError:
        # An integer beyond 64 bits, a lone surrogate, or a key that isn't text.
        return json.dumps(event, default=repr, skipkeys=True)


def configure_logging(*, level: str, as_json: bool) -> None:
    """Send the records of structlog and the standard library through one formatter to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[structlog.typing.Processor] = (
        [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_as_json),
        ]
        if as_json
        # The default formatter would print the locals of each frame, and secrets among them.
        else [
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        *last,
                    ],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {name: {"level": "WARNING"} for name in _NEVER_BELOW_WARNING},
        }
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
