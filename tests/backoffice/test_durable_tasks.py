"""Check what a task's body does with its message while the database is away."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from celery.app.task import Context
from celery.exceptions import Ignore, Reject
from django.db import InternalError, OperationalError, connection
from psycopg.errors import ReadOnlySqlTransaction

from backoffice import durable_tasks
from backoffice.celery import app
from backoffice.durable_tasks import DurableTask, NotByThisQueue
from exchanges.duties import HandOver, repeated
from tests.harness.redis import TestRedis
from tests.harness.waiting import wait_for

ID = "0b7c6a5e-0000-4000-8000-000000000000"


def read_only() -> InternalError:
    error = InternalError("cannot execute INSERT in a read-only transaction")
    error.__cause__ = ReadOnlySqlTransaction()
    return error


class Body:
    """A task whose body raises these errors first."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.runs = 0

    def __call__(self, number: int, *, word: str) -> str:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        return f"{number} {word}"


@pytest.fixture
def body(monkeypatch: pytest.MonkeyPatch) -> Iterator[Body]:
    monkeypatch.setattr(durable_tasks, "_FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(durable_tasks, "_stopping", threading.Event())
    monkeypatch.setattr(durable_tasks, "_pauses", durable_tasks._Pauses())
    durable_tasks._Duty._begun_at.clear()
    made = Body()

    def run(number: int, *, word: str) -> str:
        return made(number, word=word)

    app.task(run, name="tests.body", shared=False, typing=False)
    yield made
    app.tasks.unregister("tests.body")


Deliver = Callable[..., Any]


@pytest.fixture
def deliver(body: Body) -> Deliver:
    """Run the body as a worker does that took the message from a queue."""

    def run(**changes: Any) -> Any:
        task: DurableTask = app.tasks["tests.body"]
        message = {
            "id": ID,
            "called_directly": False,
            "delivery_info": {"routing_key": "duties"},
            "reply_to": "somebody",
            "ignore_result": False,
            "headers": {},
        }
        task.push_request(**(message | changes))
        try:
            return task(7, word="x")
        finally:
            task.pop_request()

    return run


def waiting(server: TestRedis, queue: str) -> list[dict[str, Any]]:
    """Return the messages in a queue of the broker."""
    with server.client() as client:
        rows = [json.loads(text) for text in client.lrange(queue, 0, -1)]
    return [row | {"body": json.loads(base64.b64decode(row["body"]))} for row in rows]


@pytest.mark.parametrize("queue", ["trading", "cancel"])
def test_body__of_another_queue_never_runs_for_a_bot(
    queue: str, body: Body, deliver: Deliver
) -> None:
    with pytest.raises(NotByThisQueue, match=rf"tests\.body .* queue {queue}"):
        deliver(delivery_info={"routing_key": queue})
    assert body.runs == 0
    deliver()
    assert body.runs == 1


@pytest.mark.parametrize("error", [OperationalError("gone"), read_only()], ids=["lost", "25006"])
def test_body__that_finds_no_database_puts_its_message_back(
    error: Exception, body: Body, deliver: Deliver, redis_server: TestRedis
) -> None:
    body.failures = [error]
    with pytest.raises(Ignore):
        deliver(headers={"mark": 1})
    (message,) = waiting(redis_server, "duties")  # the queue it came from
    assert message["headers"]["id"] == ID
    assert message["headers"]["task"] == "tests.body"
    assert message["headers"]["ignore_result"] is False
    assert message["headers"]["mark"] == 1
    assert message["headers"]["eta"] is None
    assert message["headers"]["retries"] == 0
    assert message["body"][:2] == [[7], {"word": "x"}]


def test_body__whose_sender_named_no_queue_of_ours_goes_where_the_task_belongs(
    body: Body, deliver: Deliver, redis_server: TestRedis
) -> None:
    body.failures = [OperationalError("gone")]
    with pytest.raises(Ignore):
        deliver(delivery_info={"routing_key": "elsewhere"})
    assert len(waiting(redis_server, "sync")) == 1


def test_body__keeps_its_message_while_the_broker_is_away_too(
    body: Body, deliver: Deliver, redis_server: TestRedis
) -> None:
    redis_server.stop()
    body.failures = [OperationalError("gone")] * 3
    assert deliver() == "7 x"
    assert body.runs == 4


def test_body__puts_its_message_back_as_soon_as_the_broker_is_there(
    body: Body, deliver: Deliver, redis_server: TestRedis
) -> None:
    redis_server.stop()
    body.failures = [OperationalError("gone")] * 1000
    with ThreadPoolExecutor(1) as pool:
        delivered = pool.submit(deliver)
        wait_for(lambda: body.runs > 1, what="it was tried again, and the broker was away")
        redis_server.start()
        with pytest.raises(Ignore):
            delivered.result(timeout=20)
    assert len(waiting(redis_server, "duties")) == 1


def test_body__of_a_worker_that_stops_hands_its_message_back(
    body: Body, deliver: Deliver, redis_server: TestRedis
) -> None:
    redis_server.stop()
    body.failures = [OperationalError("gone")] * 1000
    threading.Timer(0.3, durable_tasks.end_pauses).start()
    with pytest.raises(Reject) as rejected:
        deliver()
    assert rejected.value.requeue


def test_pause__grows_and_ends_with_the_worker(
    body: Body, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(durable_tasks, "_FIRST_PAUSE_SECONDS", 0.25)
    monkeypatch.setattr(DurableTask, "_put_back", lambda *_: True)
    monkeypatch.setattr(durable_tasks._stopping, "wait", pauses.append)
    for _ in range(7):
        body.failures = [OperationalError("gone")]
        with pytest.raises(Ignore):
            deliver()
    assert pauses == [0.25, 0.5, 1, 2, 4, 5, 5]
    deliver()
    body.failures = [OperationalError("gone")]
    with pytest.raises(Ignore):
        deliver()
    assert pauses[-1] == 0.25


def test_pause__ends_when_the_worker_stops(
    body: Body, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable_tasks, "_FIRST_PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(DurableTask, "_put_back", lambda *_: True)
    body.failures = [OperationalError("gone")]
    durable_tasks.end_pauses()
    started_at = monotonic()
    with pytest.raises(Ignore):
        deliver()
    assert monotonic() - started_at < 1


@pytest.mark.parametrize("how", [{"called_directly": True}, {"is_eager": True}])
def test_body__in_the_callers_process_raises(
    how: dict[str, Any], body: Body, deliver: Deliver
) -> None:
    body.failures = [OperationalError("gone")]
    with pytest.raises(OperationalError):
        deliver(**how)


def test_body__with_an_error_of_its_own_raises(body: Body, deliver: Deliver) -> None:
    body.failures = [ValueError("mine")]
    with pytest.raises(ValueError, match="mine"):
        deliver()


@pytest.mark.django_db(transaction=True)
def test_body__drops_the_connection_that_failed(
    body: Body, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DurableTask, "_put_back", lambda *_: True)
    connection.ensure_connection()
    body.failures = [OperationalError("gone")]
    with pytest.raises(Ignore):
        deliver()
    assert connection.connection is None


# -- another queue ---------------------------------------------------------------------------------


def test_call__hands_the_message_over_to_another_queue(
    body: Body, deliver: Deliver, redis_server: TestRedis
) -> None:
    body.failures = [HandOver("duties", lambda: "done here")]
    with pytest.raises(Ignore, match="handed over to duties"):
        deliver()
    [message] = waiting(redis_server, "duties")
    assert message["headers"]["id"] == ID
    assert message["properties"]["reply_to"] == "somebody"


def test_call__does_the_work_here_if_the_broker_takes_no_message(
    body: Body, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DurableTask, "_put_back", lambda *_args, **_kwargs: False)
    body.failures = [HandOver("duties", lambda: "done here")]
    assert deliver() == "done here"


# -- duties ----------------------------------------------------------------------------------------


def test_duty__that_waits_many_times_is_done_once(body: Body, deliver: Deliver) -> None:
    assert deliver(**repeated(900)) == "7 x"
    for _ in range(3):
        with pytest.raises(Ignore):
            deliver(**repeated(900))
    assert body.runs == 1


def test_duty__is_done_again_at_its_interval(body: Body, deliver: Deliver) -> None:
    for _ in range(3):
        deliver(**repeated(0.000_001))
    assert body.runs == 3


def test_duty__that_was_not_done_is_done_at_once(
    body: Body, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DurableTask, "_put_back", lambda *_: True)
    body.failures = [OperationalError("gone")]
    with pytest.raises(Ignore):
        deliver(**repeated(900))
    assert deliver(**repeated(900)) == "7 x"


def test_duty__that_a_person_asks_for_is_always_done(body: Body, deliver: Deliver) -> None:
    for _ in range(3):
        deliver()
    assert body.runs == 3


def test_context__keeps_a_senders_silence_about_the_result() -> None:
    assert "ignore_result" not in vars(Context(id=ID))
