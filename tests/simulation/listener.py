"""Follow the private streams as `orders.stream.listener` does, without its event loop.

The real `StreamApplier` and the real readers of events do the work. Only the loop around them, with
its sockets and its threads, is written again here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from django.conf import settings
from django.db import connection

from exchanges import clock
from exchanges.binance.http import parsed
from exchanges.binance.json_fields import Malformed
from exchanges.binance.stream_messages import Ended, read_event
from exchanges.binance.user_stream import MOST_TOGETHER
from exchanges.errors import GatewayError
from exchanges.models import ExchangeAccount
from orders.db_retry import is_database_away
from orders.stand_in import neglected_accounts, stand_in
from orders.stream.apply import StreamApplier, may_share, store_states
from orders.stream.listener import DUTIES_EVERY_SECONDS
from tests.simulation.network import SimExchange, Stream
from tests.simulation.scheduler import Process, Scheduler

_BEAT_SECONDS = 3.0


class _Bad(NamedTuple):
    """A frame that can't be read."""

    problem: str
    raw: str


def _read(text: str) -> Any:
    try:
        return read_event(parsed(text)["event"])
    except Malformed as error:
        return _Bad(str(error), text)


def _may_share(event: Any) -> bool:
    return not isinstance(event, _Bad | Ended) and may_share(event)


def beat(scheduler: Scheduler, followers: Sequence[Follower]) -> None:
    """Say every few seconds that the listener runs, for all accounts at once."""
    while True:
        scheduler.sleep(_BEAT_SECONDS)
        try:
            store_states([own.applier for own in followers if own.applier is not None])
        except Exception as error:
            if not is_database_away(error):
                raise
            connection.close()


def help_out(scheduler: Scheduler, followers: Sequence[Follower], marks: set[str]) -> None:
    """Do the duties that no worker does, for the accounts that the listener follows."""
    while True:
        scheduler.sleep(DUTIES_EVERY_SECONDS)
        try:
            for account in neglected_accounts():
                if any(own.name == account.name for own in followers):
                    marks.add("listener helped out")
                    stand_in(account)
        except Exception as error:
            if not is_database_away(error):
                raise
            connection.close()


class Follower:
    """One account's stream: its events one by one, and its second look beside them."""

    def __init__(
        self,
        scheduler: Scheduler,
        exchange: SimExchange,
        process: Process,
        name: str,
        marks: set[str],
    ) -> None:
        self.scheduler = scheduler
        self.exchange = exchange
        self.process = process
        self.name = name
        self.marks = marks
        self.applier: StreamApplier | None = None
        self._looks = 0

    def run(self) -> None:
        """Connect again and again."""
        account = self._account()
        self.applier = StreamApplier(account)
        pause = 0.5
        while True:
            if self.exchange.is_away or self.name in self.exchange.refused_keys:
                self.scheduler.sleep(1.0)
                continue
            self.scheduler.boundary("subscribe", self.name)
            stream = self.exchange.subscribe(self.name)
            began = clock.monotonic()
            self._catch_up(self.applier)
            self._look_later()
            self._follow(stream, self.applier)
            if clock.monotonic() - began > settings.EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS:
                pause = 0.5
            self._do(partial(self.applier.disconnected, "closed"))
            self.scheduler.sleep(pause)
            pause = min(pause * 2, settings.EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS)

    def _account(self) -> ExchangeAccount:
        while True:
            try:
                return ExchangeAccount.objects.get(name=self.name)
            except Exception as error:
                if not is_database_away(error):
                    raise
                connection.close()
                self.scheduler.sleep(1.0)

    def _catch_up(self, applier: StreamApplier) -> None:
        pause = 0.5
        while True:
            try:
                applier.connected(clock.now())
            except Exception as error:
                if is_database_away(error):
                    applier.close()
                elif not isinstance(error, GatewayError):
                    raise
                self.scheduler.sleep(pause)
                pause = min(pause * 2, 15.0)
            else:
                return

    def _look_later(self) -> None:
        self._looks += 1
        number, applier = self._looks, self.applier

        def look() -> None:
            self.scheduler.sleep(settings.EXCHANGE_READ_LAG_MS / 1000)
            if number != self._looks or applier is None:
                return
            try:
                applier.look_again()
            except GatewayError:
                pass
            except Exception as error:
                if not is_database_away(error):
                    raise
            finally:
                connection.close()

        self.scheduler.spawn(f"{self.process.name}/look-{self.name}-{number}", self.process, look)

    def _follow(self, stream: Stream, applier: StreamApplier) -> None:
        silence = float(settings.EXCHANGE_STREAM_SILENCE_SECONDS)
        while True:
            self.scheduler.wait(lambda: bool(stream.frames) or not stream.is_open, silence)
            if not stream.frames:
                if not stream.is_open:
                    return
                continue  # the exchange's pings keep a quiet connection alive
            waiting, stream.frames[:] = stream.frames[:MOST_TOGETHER], stream.frames[MOST_TOGETHER:]
            self.scheduler.boundary("event", self.name)
            for can_share, group in groupby(map(_read, waiting), key=_may_share):
                events = list(group)
                if can_share and len(events) > 1:
                    events = self._left_of(applier, events)
                if not all(self._take(applier, event) for event in events):
                    return

    def _left_of(self, applier: StreamApplier, events: list[Any]) -> list[Any]:
        """Apply the events together, as the listener does. Return those that it applies alone."""
        try:
            places = applier.apply_together(events)
        except Exception as error:  # noqa: BLE001  the listener does the same
            if is_database_away(error):
                connection.close()
            return events
        self.marks.add("events together")
        return [events[place] for place in places]

    def _take(self, applier: StreamApplier, event: Any) -> bool:
        """Apply one event. Return False if it is the stream's end."""
        if isinstance(event, _Bad):
            self._do(partial(applier.keep, problem=event.problem, raw=event.raw))
        elif isinstance(event, Ended):
            return False
        else:
            self._do(partial(applier.apply, event))
        return True

    def _do(self, call: Callable[[], Any]) -> None:
        pause = 0.1
        while True:
            try:
                call()
            except GatewayError:
                return
            except Exception as error:
                if not is_database_away(error):
                    raise
                connection.close()
                self.scheduler.sleep(pause)
                pause = min(pause * 4, 5.0)
            else:
                return
