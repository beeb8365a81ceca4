"""Send the messages of duties while the broker goes away."""

from __future__ import annotations

from kombu.exceptions import OperationalError

from exchanges.duties import HEADER, enqueue_each


class LosesConnection:
    """A task whose broker takes one message and is then away."""

    name = "tests.follow"

    def __init__(self) -> None:
        self.sent: list[tuple[str, float]] = []

    def apply_async(self, args: tuple[str], headers: dict[str, float]) -> None:
        if self.sent:
            raise OperationalError("connection refused")
        self.sent.append((args[0], headers[HEADER]))


def test_enqueue_each__leaves_the_rest_for_the_next_time_if_the_broker_goes_away() -> None:
    task = LosesConnection()
    assert enqueue_each(task, ["one", "two", "three"], every=5.0) == 1
    assert task.sent == [("one", 5.0)]
