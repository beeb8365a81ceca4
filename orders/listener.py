"""The process behind `listen_user_stream`: one stream for each enabled account, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from functools import partial
from itertools import chain, repeat
from typing import Any

import structlog
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection

from exchanges.errors import GatewayError
from exchanges.models import ExchangeAccount
from exchanges.stream_events import Bad, Connected, Disconnected, Terminated
from exchanges.user_stream import UserStream
from orders.live import LiveAccount

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS = 5.0
RETRY_TERMINATED_SECONDS = 60.0
STOP_WITHIN_SECONDS = 3.0
LAST_WORD_SECONDS = 1.0


class Listener:
    """Follows the accounts that are enabled, or the named one; new ones are found within seconds."""

    def __init__(self, account_name: str | None = None) -> None:
        self._account_name = account_name
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Follow until `stop`; returns within `STOP_WITHIN_SECONDS` of it."""
        try:
            stopping = asyncio.create_task(self._stop.wait())
            while not self._stop.is_set():
                # A database that hangs must not keep the process from ending.
                look = asyncio.create_task(self._look())
                await asyncio.wait({look, stopping}, return_when="FIRST_COMPLETED")
                if not look.done():
                    look.cancel()
                    break
                look.result()
                await asyncio.wait({stopping}, timeout=LOOK_EVERY_SECONDS)
        finally:
            for task in self._followers.values():
                task.cancel()
            if self._followers:
                await asyncio.wait(self._followers.values(), timeout=STOP_WITHIN_SECONDS)

    async def _look(self) -> None:
        """Start following new accounts, stop following those that were disabled."""
        try:
            accounts = await asyncio.to_thread(self._enabled_accounts)
        except (OperationalError, InterfaceError) as error:
            log.warning("listener_database_away", error=type(error).__name__)
            return
        for key in set(self._followers) - set(accounts):
            self._followers.pop(key).cancel()
        for key, account in accounts.items():
            task = self._followers.get(key)
            if task is None or task.done():
                self._followers[key] = asyncio.create_task(_Follower(account).run())

    def _enabled_accounts(self) -> dict[int, ExchangeAccount]:
        try:
            rows = ExchangeAccount.objects.filter(is_enabled=True)
            if self._account_name is not None:
                rows = rows.filter(name=self._account_name)
            return {row.pk: row for row in rows}
        except (OperationalError, InterfaceError):
            connection.close()
            raise


class _Follower:
    """One account: its stream in the event loop, its writes in one thread of their own, in order."""

    def __init__(self, account: ExchangeAccount) -> None:
        self._account = account
        self._live = LiveAccount(account)
        self._second_look: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"stream-{account.name}")
        self._looking = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"look-{account.name}")

    async def run(self) -> None:
        pulse = asyncio.create_task(self._say_alive())
        try:
            await self._follow()
        finally:
            pulse.cancel()
            if self._second_look is not None:
                self._second_look.cancel()
            with suppress(Exception):  # a busy or broken thread: what it said last goes stale within seconds
                stopped = self._in_thread(self._live.disconnected, "the listener has stopped")
                await asyncio.wait_for(stopped, LAST_WORD_SECONDS)
            self._thread.submit(self._live.close)
            self._thread.shutdown(wait=False)
            self._looking.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        async with aclosing(self._stream().events()) as events:
            async for event in events:
                if isinstance(event, Connected):
                    if self._second_look is not None:
                        # Of a stream that is cut again and again only the last connection is looked at twice.
                        self._second_look.cancel()
                    await self._catch_up(event)
                    self._second_look = asyncio.create_task(self._look_again())
                elif isinstance(event, Disconnected):
                    await self._do(self._live.disconnected, event.reason)
                elif isinstance(event, Terminated):
                    # The key is refused. A person has to look; it is tried again now and then.
                    await self._do(self._live.disconnected, f"stopped: {event.reason}")
                    await asyncio.sleep(RETRY_TERMINATED_SECONDS)
                elif isinstance(event, Bad):
                    log.error("stream_event_unreadable", account=self._account.name, error=event.error, raw=event.raw)
                    await self._do(partial(self._live.keep, problem=event.error, raw=event.raw))
                else:
                    await self._do(self._live.apply, event)

    def _stream(self) -> UserStream:
        return UserStream(
            self._account,
            silence_seconds=settings.EXCHANGE_STREAM_SILENCE_SECONDS,
            longest_pause_seconds=settings.EXCHANGE_STREAM_LONGEST_PAUSE_SECONDS,
        )

    async def _catch_up(self, event: Connected) -> None:
        """Until the catch-up has succeeded the account is not in sync; events wait behind it."""
        pause = 0.5
        while True:
            try:
                await self._in_thread(self._live.connected, event.subscribed_at)
            except (GatewayError, OperationalError, InterfaceError) as error:
                log.warning("stream_catch_up_failed", account=self._account.name, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, 15.0)
            else:
                return

    async def _look_again(self) -> None:
        """In a thread of its own, as a worker would: events must not wait for a long history."""
        await asyncio.sleep(settings.EXCHANGE_READ_LAG_MS / 1000)
        try:
            await asyncio.get_running_loop().run_in_executor(self._looking, self._compare)
        except (GatewayError, OperationalError, InterfaceError) as error:
            log.warning("stream_second_look_failed", account=self._account.name, error=str(error))
        except Exception:
            log.exception("stream_second_look_failed", account=self._account.name)

    def _compare(self) -> None:
        try:
            self._live.look_again()
        finally:
            connection.close()

    async def _say_alive(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await self._do(self._live.alive)

    async def _do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Run in the account's thread. While the database is away events wait; one that cannot be applied is kept."""
        for pause in chain((0.1, 0.5, 2.0), repeat(5.0)):
            try:
                await self._in_thread(call, *arguments)
            except (OperationalError, InterfaceError) as error:
                log.warning("listener_database_away", account=self._account.name, error=type(error).__name__)
                await self._in_thread(self._live.close)
                await asyncio.sleep(pause)
            except GatewayError as error:
                log.warning("stream_question_failed", account=self._account.name, error=str(error))
                return
            except Exception:
                # The next event must not wait for this one; the sync finds what was missed.
                log.exception("stream_event_failed", account=self._account.name, argument=repr(arguments)[:2000])
                await self._keep_failed(arguments)
                return
            else:
                return

    async def _keep_failed(self, arguments: tuple[Any, ...]) -> None:
        problem = f"could not be applied: {', '.join(type(argument).__name__ for argument in arguments)}"
        with suppress(Exception):  # it is in the log already
            await self._in_thread(partial(self._live.keep, problem=problem, raw=repr(arguments)))

    async def _in_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*arguments))


async def listen(account_name: str | None = None) -> None:
    """Follow until SIGTERM or SIGINT."""
    listener = Listener(account_name)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, listener.stop)
    log.info("listener_started", account=account_name or "*")
    await listener.run()
    log.info("listener_stopped")


def listen_forever(account_name: str | None = None) -> None:
    """Run the process. It leaves without waiting for a read that is still under way: every write is a transaction."""
    asyncio.run(_listen_and_leave(account_name))


async def _listen_and_leave(account_name: str | None) -> None:
    await listen(account_name)
    os._exit(0)
