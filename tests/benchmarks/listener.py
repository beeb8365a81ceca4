"""Run `listen_user_stream` with a stamp for each committed event.

The program appends a line for each executionReport to the file that the environment names: client
order id, the exchange's time of the event, and when its commit returned, both in nanoseconds since
the epoch.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import django

from tests.benchmarks import STAMPS_FILE


class _Committed(threading.local):
    at: int = 0


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    django.setup()
    from django.db.backends.base.base import BaseDatabaseWrapper

    from orders.recording.together import Recorded
    from orders.stream.apply import StreamApplier
    from orders.stream.listener import listen_forever

    first, file = (
        _Committed(),
        os.open(os.environ[STAMPS_FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
    )
    commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
    apply_order = StreamApplier._apply_order
    apply_orders = StreamApplier._record_together

    def stamp_commit(connection: BaseDatabaseWrapper) -> None:
        commit(connection)
        first.at = (
            first.at or time.time_ns()
        )  # later commits notify the orchestrator and store the stream's state

    def stamp(events: Sequence[Any]) -> None:
        lines = [
            f"{event.report.client_order_id} {int(event.event_at.timestamp() * 1000) * 1_000_000}"
            f" {first.at}\n"
            for event in events
        ]
        os.write(file, "".join(lines).encode())

    def stamp_event(account: StreamApplier, event: Any) -> Any:
        first.at = 0
        order = apply_order(account, event)
        stamp([event])
        return order

    def stamp_events(account: StreamApplier, events: Sequence[Any]) -> Recorded:
        first.at = 0
        done = apply_orders(account, events)
        stamp([events[place] for place in sorted(done.places)])
        return done

    BaseDatabaseWrapper._commit = stamp_commit  # type: ignore[attr-defined]
    StreamApplier._apply_order = stamp_event  # type: ignore[method-assign, assignment]
    StreamApplier._record_together = stamp_events  # type: ignore[method-assign, assignment]
    listen_forever()


if __name__ == "__main__":
    main()
