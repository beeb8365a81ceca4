"""Run each task so that an outage of the database costs its message time, and nothing else.

All bodies are safe to repeat. While the database is away, read-only or failing over, the message
goes back to its queue and the thread pauses. It is published again: RabbitMQ counts a rejected
message's returns and drops it after some, and Celery's retries wait inside a worker.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import structlog
from celery import Task, signals
from celery.exceptions import Ignore, Reject
from django.conf import settings
from django.db import connections

from exchanges.db.duty_runs import stamp_run
from exchanges.duties import HEADER, HandOver
from orders.db_retry import is_database_away

log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
#: Bots may push to these. A message on one of them starts no other work than orders and cancels.
BOT_QUEUES = frozenset({"trading", "cancel"})
_stopping = threading.Event()


@signals.worker_shutting_down.connect(weak=False)
def end_pauses(**_: Any) -> None:
    _stopping.set()


class NotByThisQueue(Exception):
    """A message on a bots' queue names a task that bots may not start. Nothing ran."""


class DurableTask(Task):  # type: ignore[misc]  # Celery has no types
    """The class of every task, so that none of them can forget it."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the body. In a worker, repeat it until the database allows it."""
        if self.request.called_directly or self.request.is_eager:
            return super().__call__(*args, **kwargs)  # the caller sees the error
        self._require_own_queue(args)
        duty = _Duty.of(self, args, kwargs)
        if duty is not None and not duty.may_begin():
            raise Ignore(f"{self.name} was done a moment ago")
        while True:
            try:
                return self._run_or_hand_over(duty, args, kwargs)
            except Exception as error:
                if not is_database_away(error):
                    raise
                _drop_connections()
                log.warning("task_waits_for_database", task=self.name, error=type(error).__name__)
            if self._put_back(args, kwargs):
                if duty is not None:
                    duty.forget()
                _pauses.pause()
                raise Ignore("put back into its queue")
            # Neither database nor broker: the message stays here until one of them is back.
            _pauses.pause()
            if _stopping.is_set():
                raise Reject("the worker stops", requeue=True)

    def _require_own_queue(self, args: Sequence[Any]) -> None:
        """Raise `NotByThisQueue` for a task of ours that came by a queue of bots.

        Beat's messages pass, such as the heartbeat of such a queue.
        """
        queue = self._queue()
        if queue not in BOT_QUEUES or self._route().get("queue") in BOT_QUEUES:
            return
        if (self.name, tuple(args), queue) not in _scheduled():
            raise NotByThisQueue(f"{self.name} can't be started through the queue {queue}")

    def _route(self) -> Mapping[str, str]:
        routes: Mapping[str, Mapping[str, str]] = settings.CELERY_TASK_ROUTES
        return routes.get(self.name, {})

    def _run_or_hand_over(
        self, duty: _Duty | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the body. If it leaves its message to another queue, publish the message there."""
        try:
            result = self.run(*args, **kwargs)
        except HandOver as handed:
            if self._put_back(args, kwargs, queue=handed.queue):
                raise Ignore(f"handed over to {handed.queue}") from None
            result = handed.or_else()
        if duty is not None:
            duty.stamp()
        _pauses.reset()
        return result

    def _put_back(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, queue: str | None = None
    ) -> bool:
        """Publish the message once more, into its queue or another one.

        Return False if the broker is away.

        Not by `apply_async`, which would subscribe this worker to the result.
        """
        request, amqp = self.request, self.app.amqp
        hard_limit, soft_limit = request.timelimit or (None, None)
        try:
            message = amqp.create_task_message(
                request.id,
                self.name,
                args,
                kwargs,
                # None if the sender didn't say. Context itself would answer False.
                ignore_result=vars(request).get("ignore_result"),
                reply_to=request.reply_to,
                expires=request.expires,
                retries=request.retries,
                callbacks=request.callbacks,
                errbacks=request.errbacks,
                chain=request.chain,
                chord=request.chord,
                group_id=request.group,
                group_index=request.group_index,
                root_id=request.root_id,
                parent_id=request.parent_id,
                shadow=request.shadow,
                time_limit=hard_limit,
                soft_time_limit=soft_limit,
                origin=request.origin,
                replaced_task_nesting=request.replaced_task_nesting,
            )
            with self.app.producer_or_acquire() as producer:
                amqp.send_task_message(
                    producer,
                    self.name,
                    message,
                    queue=queue or self._queue(),
                    headers=request.headers or {},
                    retry=False,
                )
        except Exception as error:  # noqa: BLE001  the broker's clients raise many
            log.warning("task_not_put_back", task=self.name, error=type(error).__name__)
            return False
        return True

    def _queue(self) -> str:
        """Return the name of the queue that the message came from."""
        name = (self.request.delivery_info or {}).get("routing_key")
        if name in self.app.amqp.queues.consume_from:
            return str(name)
        return str(self.app.amqp.router.route({}, self.name)["queue"].name)


def _scheduled() -> list[tuple[str, tuple[Any, ...], str | None]]:
    """Return the task, arguments and own queue of each message of beat."""
    return [
        (row["task"], tuple(row.get("args", ())), row["options"].get("queue"))
        for row in settings.CELERY_BEAT_SCHEDULE.values()
    ]


def _drop_connections() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close()


class _Pauses:
    """Pause one thread, longer each time, until a task of that thread succeeds."""

    def __init__(self) -> None:
        self._local = threading.local()

    def pause(self) -> None:
        failures: int = getattr(self._local, "failures", 0)
        self._local.failures = failures + 1
        _stopping.wait(min(_FIRST_PAUSE_SECONDS * 2.0**failures, LONGEST_PAUSE_SECONDS))

    def reset(self) -> None:
        self._local.failures = 0


_pauses = _Pauses()


class _Duty:
    """One duty of this process, which its sender repeats every so many seconds."""

    _begun_at: dict[tuple[str, str], float] = {}  # noqa: RUF012  of all duties
    _lock = threading.Lock()

    def __init__(self, key: tuple[str, str], every: float, *, has_arguments: bool) -> None:
        self._key = key
        self._every = every
        self._has_arguments = has_arguments

    @classmethod
    def of(cls, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Duty | None:
        """Return the duty of a marked message."""
        every = (task.request.headers or {}).get(HEADER)
        if not isinstance(every, int | float):
            return None
        key = (task.name, repr((args, sorted(kwargs.items()))))
        return cls(key, float(every), has_arguments=bool(args or kwargs))

    def may_begin(self) -> bool:
        """Record a start and return True, unless the last one is under half an interval ago."""
        now = monotonic()
        with self._lock:
            begun_at = self._begun_at.get(self._key)
            if begun_at is not None and now - begun_at < self._every / 2:
                return False
            self._begun_at[self._key] = now
            return True

    def stamp(self) -> None:
        """Store that the duty has just run. The duty of one account or queue stamps itself."""
        if not self._has_arguments:
            stamp_run(self._key[0])

    def forget(self) -> None:
        """Forget the last start, because the duty was not done. It may start at once."""
        with self._lock:
            self._begun_at.pop(self._key, None)
