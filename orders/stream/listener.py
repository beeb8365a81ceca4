"""Run `listen_user_stream`: one stream for each enabled account, until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, repeat
from typing import Any

import structlog
from django.conf import settings
from django.db import Error, connection

from exchanges import clock
from exchanges.binance.stream_messages import (
    Bad,
    BalanceDelta,
    Connected,
    Disconnected,
    ExecutionReport,
    StreamEvent,
    Terminated,
)
from exchanges.binance.user_stream import UserStream
from exchanges.errors import GatewayError
from exchanges.models import ExchangeAccount
from orders.db_retry import is_database_away
from orders.reconciliation.open_orders import followed_accounts
from orders.stream.again import ReadAgain
from orders.stream.apply import StreamApplier, may_share, store_states

log = structlog.get_logger(__name__)

READERS = 4
LOOKERS = 2
SWEEPERS = 2
LOOK_EVERY_SECONDS = 5.0
BEAT_EVERY_SECONDS = 3.0
DUTIES_EVERY_SECONDS = 2.0
RETRY_TERMINATED_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 15.0
LONGEST_RESTART_SECONDS = 300.0
STOP_WITHIN_SECONDS = 3.0
LAST_WRITE_SECONDS = 1.0


class Threads:
    """The few threads of a listener, however many accounts it follows.

    One thread writes the events of the streams, in order, with the one database connection that
    stays open. A few others read the exchange, and close their connections after each piece of
    work.
    """

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stream-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="stream-reader")
        # A catch-up must not wait for the long comparisons of others.
        self._lookers = ThreadPoolExecutor(LOOKERS, thread_name_prefix="stream-looker")
        self._sweepers = ThreadPoolExecutor(SWEEPERS, thread_name_prefix="stream-sweeper")

    async def write(self, call: Callable[[], None]) -> None:
        """Run the call in the writing thread."""
        await asyncio.get_running_loop().run_in_executor(self._writer, call)

    async def read(self, call: Callable[[], None]) -> None:
        """Run the call in a reading thread."""
        await asyncio.get_running_loop().run_in_executor(self._readers, _and_disconnect, call)

    async def compare(self, call: Callable[[], None]) -> None:
        """Run a call that may take minutes in a thread of its kind."""
        await asyncio.get_running_loop().run_in_executor(self._lookers, _and_disconnect, call)

    async def sweep(self, call: Callable[[], None]) -> None:
        """Run the duties of an account in a thread of their kind."""
        await asyncio.get_running_loop().run_in_executor(self._sweepers, _and_disconnect, call)

    def close(self, *, wait: bool = False) -> None:
        """Let the threads end after what they are doing."""
        self._writer.submit(connection.close)
        self._writer.shutdown(wait=wait)
        self._readers.shutdown(wait=wait, cancel_futures=True)
        self._lookers.shutdown(wait=wait, cancel_futures=True)
        self._sweepers.shutdown(wait=wait, cancel_futures=True)


def _and_disconnect(call: Callable[[], None]) -> None:
    try:
        call()
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Duties:
    """The duties of the workers, which the listener does if none of them does."""

    neglected: Callable[[], list[ExchangeAccount]]
    do: Callable[[ExchangeAccount], None]


@dataclass(slots=True)
class _Following:
    """One account's follower, and how often it has ended with an error."""

    follower: _Follower
    task: asyncio.Task[None]
    began_at: float
    failures: int = 0
    again_at: float = 0.0


class Listener:
    """Follow the accounts that need it, or the named one. New ones are found within seconds."""

    def __init__(self, account_name: str | None = None, duties: Duties | None = None) -> None:
        self._account_name = account_name
        self._duties = duties
        self._at_duty: dict[int, asyncio.Task[None]] = {}
        self._following: dict[int, _Following] = {}
        self._stop = asyncio.Event()
        self._threads = Threads()

    def stop(self) -> None:
        """Let `run` return soon."""
        self._stop.set()

    async def run(self) -> None:
        """Follow until `stop`, and return within `STOP_WITHIN_SECONDS` after it."""
        beating = asyncio.create_task(self._beat())
        helping = asyncio.create_task(self._stand_in())
        try:
            stopping = asyncio.create_task(self._stop.wait())
            while not self._stop.is_set():
                # A database that hangs must not keep the process from stopping.
                look = asyncio.create_task(self._look())
                await asyncio.wait({look, stopping}, return_when="FIRST_COMPLETED")
                if not look.done():
                    look.cancel()
                    break
                look.result()
                await asyncio.wait({stopping}, timeout=LOOK_EVERY_SECONDS)
        finally:
            beating.cancel()
            helping.cancel()
            tasks = [row.task for row in self._following.values()]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=STOP_WITHIN_SECONDS)
            self._threads.close()

    async def _look(self) -> None:
        """Start following new accounts, stop following those that need it no longer."""
        accounts: dict[int, ExchangeAccount] = {}
        try:
            await self._threads.write(lambda: accounts.update(self._enabled_accounts()))
        except Error as error:
            if not is_database_away(error):
                raise
            log.warning("listener_database_away", error=type(error).__name__)
            return
        for key in set(self._following) - set(accounts):
            self._following.pop(key).task.cancel()
        for key, account in accounts.items():
            self._follow(key, account)

    def _follow(self, key: int, account: ExchangeAccount) -> None:
        """Start the account's follower, or start it again some time after it failed."""
        now, known = clock.monotonic(), self._following.get(key)
        if known is None:
            self._following[key] = self._started(account, now)
        elif known.task.done():
            if not known.again_at:
                self._note_end(known, account, now)
            if now >= known.again_at:
                self._following[key] = self._started(account, now, failures=known.failures)

    def _started(self, account: ExchangeAccount, now: float, *, failures: int = 0) -> _Following:
        follower = _Follower(account, self._threads)
        return _Following(follower, asyncio.create_task(follower.run()), now, failures)

    def _note_end(self, ended: _Following, account: ExchangeAccount, now: float) -> None:
        """Choose the pause before an account is followed again. It grows with each failure."""
        error = None if ended.task.cancelled() else ended.task.exception()
        if now - ended.began_at > LONGEST_RESTART_SECONDS:
            ended.failures = 0  # It has lived.
        if error is not None:
            ended.failures += 1
            log.error("follower_failed", account=account.name, exc_info=error)
        grown = LOOK_EVERY_SECONDS * 2.0 ** min(ended.failures, 10)
        ended.again_at = now + (min(grown, LONGEST_RESTART_SECONDS) if ended.failures else 0.0)

    async def _beat(self) -> None:
        """Report repeatedly that the listener runs, for all accounts at once."""
        while True:
            await asyncio.sleep(BEAT_EVERY_SECONDS)
            live = [row.follower.applier for row in self._following.values()]
            try:
                await self._threads.write(partial(store_states, live))
            except Exception as error:
                if not is_database_away(error):
                    log.exception("listener_beat_failed")
                with suppress(Exception):
                    await self._threads.write(connection.close)

    async def _stand_in(self) -> None:
        """Look for duties that no worker does, and do them."""
        while self._duties is not None:
            await asyncio.sleep(DUTIES_EVERY_SECONDS)
            found: list[ExchangeAccount] = []
            try:
                await self._threads.write(partial(self._look_for_duties, found))
            except Exception as error:
                if not is_database_away(error):
                    log.exception("listener_duties_failed")
                continue
            for account in found:
                running = self._at_duty.get(account.pk)
                if running is None or running.done():
                    self._at_duty[account.pk] = asyncio.create_task(self._do_duties(account))

    def _look_for_duties(self, found: list[ExchangeAccount]) -> None:
        assert self._duties is not None
        try:
            accounts = self._duties.neglected()
        except Error:
            connection.close()
            raise
        found += [each for each in accounts if self._account_name in (None, each.name)]

    async def _do_duties(self, account: ExchangeAccount) -> None:
        assert self._duties is not None
        try:
            await self._threads.sweep(partial(self._duties.do, account))
        except Exception as error:
            if not is_database_away(error):
                log.exception("listener_duties_failed", account=account.name)

    def _enabled_accounts(self) -> dict[int, ExchangeAccount]:
        try:
            rows = followed_accounts()
            if self._account_name is not None:
                rows = rows.filter(name=self._account_name)
            return {row.pk: row for row in rows}
        except Error:
            connection.close()
            raise


class _Follower:
    """Follow one account: its stream in the event loop, its events in order in a thread."""

    def __init__(self, account: ExchangeAccount, threads: Threads | None = None) -> None:
        self._account = account
        self._threads = threads or Threads()
        self.applier = StreamApplier(account)
        self._second_look: asyncio.Task[None] | None = None
        self._again = ReadAgain(account.name, partial(self._threads.read, self.applier.read_again))

    async def run(self) -> None:
        try:
            await self._follow()
        finally:
            if self._second_look is not None:
                self._second_look.cancel()
            self._again.cancel()
            # The thread may be busy or broken. Then its last state goes stale within seconds.
            with suppress(Exception):
                stopped = self._threads.write(
                    partial(self.applier.disconnected, "the listener has stopped")
                )
                await asyncio.wait_for(stopped, LAST_WRITE_SECONDS)

    async def _follow(self) -> None:
        async with aclosing(self._stream().groups()) as groups:
            async for group in groups:
                await self._take_all(group)

    async def _take_all(self, group: Sequence[StreamEvent]) -> None:
        """Take events that have arrived meanwhile. Those in a row that may share go together."""
        for can_share, row in groupby(group, key=may_share):
            events = list(row)
            if can_share and len(events) > 1:
                events = await self._left_of(events)
            for event in events:
                await self._take(event)

    async def _left_of(self, events: list[Any]) -> list[Any]:
        """Apply the events together. Return those that must be applied alone."""
        places: list[int] = []
        try:
            await self._threads.write(lambda: places.extend(self.applier.apply_together(events)))
        except Exception as error:  # noqa: BLE001  applied alone, each is retried, or kept if bad
            log.warning(
                "events_not_shared",
                account=self._account.name,
                count=len(events),
                error=type(error).__name__,
            )
            return events
        return [events[place] for place in places]

    async def _take(self, event: StreamEvent) -> None:
        if isinstance(event, Connected):
            if self._second_look is not None:
                # If connections break quickly, only the last one gets a second look.
                self._second_look.cancel()
            await self._catch_up(event)
            self._second_look = asyncio.create_task(self._look_again())
        elif isinstance(event, Disconnected):
            await self._do(self.applier.disconnected, event.reason)
        elif isinstance(event, Terminated):
            # The key is refused, so a person must act. Try again now and then.
            await self._do(self.applier.disconnected, f"stopped: {event.reason}")
            await asyncio.sleep(RETRY_TERMINATED_SECONDS)
        elif isinstance(event, Bad):
            log.error(
                "stream_event_unreadable",
                account=self._account.name,
                error=event.error,
                raw=event.raw,
            )
            self._doubt()
            await self._do(partial(self.applier.keep, problem=event.error, raw=event.raw))
        else:
            await self._do(self.applier.apply, event)

    def _stream(self) -> UserStream:
        return UserStream(
            self._account,
            silence_seconds=settings.EXCHANGE_STREAM_SILENCE_SECONDS,
            longest_pause_seconds=settings.EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS,
        )

    async def _catch_up(self, event: Connected) -> None:
        """Retry the catch-up until it succeeds. Events wait, and the account is not in sync."""
        pause = 0.5
        while True:
            try:
                await self._threads.read(partial(self.applier.connected, event.subscribed_at))
            except Exception as error:
                is_expected = isinstance(error, GatewayError) or is_database_away(error)
                log.warning(
                    "stream_catch_up_failed",
                    account=self._account.name,
                    error=str(error),
                    exc_info=None if is_expected else error,
                )
                if is_database_away(error):
                    await self._threads.read(self.applier.close)
                await asyncio.sleep(pause)
                longest = LONGEST_PAUSE_SECONDS if is_expected else LONGEST_RESTART_SECONDS
                pause = min(pause * 2, longest)
            else:
                return

    async def _look_again(self) -> None:
        """Compare in another thread, because events must not wait for a long history."""
        await asyncio.sleep(settings.EXCHANGE_READ_LAG_MS / 1000)
        try:
            await self._threads.compare(self.applier.look_again)
        except GatewayError as error:
            log.warning("stream_second_look_failed", account=self._account.name, error=str(error))
        except Exception:
            log.exception("stream_second_look_failed", account=self._account.name)

    async def _do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Run the call in the account's turn.

        While the database is away, it waits and retries. An event that fails is kept as a break.
        """
        for pause in chain((0.1, 0.5, 2.0), repeat(5.0)):
            try:
                await self._in_thread(call, *arguments)
            except GatewayError as error:
                log.warning("stream_question_failed", account=self._account.name, error=str(error))
                return
            except Exception as error:
                if is_database_away(error):
                    log.warning(
                        "listener_database_away",
                        account=self._account.name,
                        error=type(error).__name__,
                    )
                    await self._threads.write(self.applier.close)
                    await asyncio.sleep(pause)
                    continue
                # The next event must not wait for this one. The sync finds the missed changes.
                log.exception(
                    "stream_event_failed",
                    account=self._account.name,
                    argument=repr(arguments)[:2000],
                )
                self._doubt()
                await self._keep_failed(arguments)
                return
            else:
                return

    def _doubt(self) -> None:
        self.applier.note_lost()
        self._again.ask()

    async def _keep_failed(self, arguments: tuple[Any, ...]) -> None:
        problem = f"could not be applied: {', '.join(map(_event_name, arguments))}"
        with suppress(Exception):  # It is in the log already.
            keep = partial(self.applier.keep, problem=problem, raw=repr(arguments))
            await self._threads.write(keep)

    async def _in_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        # A balance that moved is read from the exchange, which must not hold up other accounts.
        asks = any(isinstance(argument, BalanceDelta) for argument in arguments)
        await (self._threads.read if asks else self._threads.write)(partial(call, *arguments))


def _event_name(event: Any) -> str:
    """Return a name for an event, with the order that it is about."""
    name = type(event).__name__
    if isinstance(event, ExecutionReport):
        return f"{name} {event.report.symbol}#{event.report.exchange_order_id}"
    return name


async def listen(account_name: str | None = None, duties: Duties | None = None) -> None:
    """Follow until SIGTERM or SIGINT."""
    listener = Listener(account_name, duties)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, listener.stop)
    log.info("listener_started", account=account_name or "*")
    await listener.run()
    log.info("listener_stopped")


def listen_forever(account_name: str | None = None, duties: Duties | None = None) -> None:
    """Run the process. Exit without waiting for a pending read, as every write is atomic."""
    asyncio.run(_listen_and_leave(account_name, duties))


async def _listen_and_leave(account_name: str | None, duties: Duties | None) -> None:
    await listen(account_name, duties)
    os._exit(0)
