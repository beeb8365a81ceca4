"""The broker: queues of messages that get lost, doubled, late and out of order."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from tests.simulation.scheduler import Scheduler, Task

BOT_TASK = "bot.on_order_event"


class BrokerAway(ConnectionError):
    """The broker doesn't answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `body` is text, so the receiver shares no object with the sender."""

    number: int
    task: str
    queue: str
    body: str
    headers: Mapping[str, Any]

    @property
    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        args, kwargs = json.loads(self.body)
        return args, kwargs


@dataclass(slots=True)
class MessageFault:
    """A fault of the next message of a task."""

    what: str  # lose, double, delay
    task: str
    seconds: float = 0.0


@dataclass(eq=False)
class Broker:
    scheduler: Scheduler
    routes: Mapping[str, Mapping[str, str]]
    default_queue: str
    is_away: bool = False
    faults: list[MessageFault] = field(default_factory=list)
    queues: dict[str, list[Message]] = field(default_factory=dict)
    inbox: list[dict[str, Any]] = field(default_factory=list)  # of the bot that is notified
    has_mark: bool = False
    held: dict[Task, Message] = field(default_factory=dict)
    under_way: int = 0
    _numbers: Any = field(default_factory=count)

    def send(
        self,
        task: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        *,
        queue: str | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        """Publish a message. Raise `BrokerAway` while the broker is."""
        self.scheduler.boundary("publish", task)
        if self.is_away:
            raise BrokerAway("the broker is away")
        body = json.dumps([list(args or ()), dict(kwargs or {})])
        name = queue or self.routes.get(task, {}).get("queue", self.default_queue)
        message = Message(next(self._numbers), task, name, body, dict(headers or {}))
        fault = next((f for f in self.faults if f.task == task), None)
        if fault is None:
            self._arrive(message)
            return
        self.faults.remove(fault)
        self.scheduler.trace("message", f"{fault.what} {task} {fault.seconds:.1f}")
        if fault.what == "double":
            self._arrive(message)
        if fault.what != "lose":
            self._later(message, fault.seconds)

    def _arrive(self, message: Message) -> None:
        if message.task == BOT_TASK:
            self.inbox.append(message.arguments[1])
            return
        self.queues.setdefault(message.queue, []).append(message)

    def _later(self, message: Message, seconds: float) -> None:
        self.under_way += 1

        def arrive() -> None:
            self.under_way -= 1
            self._arrive(message)

        self.scheduler.after(seconds, arrive)

    def take(self, queues: Collection[str], task: Task) -> Message | None:
        """Wait for the next message of these queues. It is ours until `done` or our death.

        Return None if the process is to stop.
        """
        process = task.process
        while True:
            self.scheduler.wait(
                lambda: process.is_stopping or (not self.is_away and self._has_any(queues))
            )
            if process.is_stopping:
                return None
            name = next(name for name in queues if self.queues.get(name))
            message = self.queues[name].pop(0)
            self.held[task] = message
            self.scheduler.boundary("message", f"{message.task} #{message.number}")
            return message

    def _has_any(self, queues: Collection[str]) -> bool:
        return any(self.queues.get(name) for name in queues)

    def done(self, task: Task) -> None:
        """Acknowledge the message that the task has taken."""
        self.held.pop(task, None)

    def put_back(self, task: Task, seconds: float) -> None:
        """Deliver the message of a dead task again, some time later."""
        message = self.held.pop(task, None)
        if message is not None:
            self._later(message, seconds)

    def flush(self) -> None:
        """Lose everything that waits."""
        self.has_mark = False
        for waiting in self.queues.values():
            waiting.clear()

    @contextmanager
    def connection(self) -> Iterator[SimpleNamespace]:
        """Return the part of kombu's connection with which the outbox notices a flush."""
        if self.is_away:
            raise BrokerAway("the broker is away")
        client = SimpleNamespace(set=self._set_mark)
        yield SimpleNamespace(
            transport=SimpleNamespace(driver_type="redis"),
            default_channel=SimpleNamespace(client=client),
        )

    @contextmanager
    def producer(self) -> Iterator[object]:
        """Return an object in place of kombu's producer: `send` does its work."""
        yield object()

    def _set_mark(self, name: str, value: str, *, nx: bool) -> bool:
        was_missing, self.has_mark = not self.has_mark, True
        return was_missing

    @property
    def is_empty(self) -> bool:
        return not self.under_way and not self.held and not any(self.queues.values())
