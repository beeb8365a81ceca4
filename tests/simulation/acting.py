"""Let the steps of a story happen in the world."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import connections, transaction

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.trading_state import NewerHalt, halt_trading, resume_trading
from orders.db_retry import is_database_away
from orders.execution import OrderExecutionService
from orders.intents import InvalidIntent
from orders.models import Order, ReviewRule, RiskLimit
from orders.placing.cancel_many import cancel_orders
from orders.placing.holding import reject_held, release_held
from orders.states import CLOSED, OrderStatus
from tests.simulation.broker import BrokerAway
from tests.simulation.changes import LimitChange
from tests.simulation.database import moment
from tests.simulation.mishaps import Mishaps
from tests.simulation.network import SYMBOLS
from tests.simulation.steps import Step
from tests.simulation.world import Halt, World


class Actor(Mishaps):
    """Everybody and everything outside the back office."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.submitted: dict[tuple[str, str], dict[str, Any]] = {}
        self.cancels: set[tuple[str, str]] = set()
        self.limit_changes: dict[str, list[LimitChange]] = {}  # the first is in force always
        self.review_above: Decimal | None = None
        self.hand_numbers = 0

    def plan(self, steps: list[Step]) -> None:
        """Let each step happen at its time."""
        begin = self.world.scheduler.now_us
        for step in steps:
            self.world.scheduler.at(begin + int(max(step.at, 0.0) * 1_000_000), self._act(step))

    def _act(self, step: Step) -> Callable[[], None]:
        def act() -> None:
            self.world.scheduler.trace("step", step.in_words())
            getattr(self, f"_{step.kind}")(dict(step.about))

        return act

    def end_faults(self) -> None:
        """Let everything work again."""
        world = self.world
        world.faults_are_over = True
        world.exchange.faults.clear()
        world.exchange.stream_faults.clear()
        world.exchange.is_away = False
        world.exchange.refused_keys.clear()
        world.exchange.slowness = 1.0
        world.exchange.simulator.lags.clear()
        for stream in world.exchange.streams:
            stream.muted_until_us = 0
        world.exchange.clock.drift(0)
        for symbol in SYMBOLS:
            self._relist(symbol)
        for symbol in list(world.exchange.simulator.engine.symbols):
            world.exchange.simulator.engine.set_status(symbol, SymbolStatus.TRADING)
        world.broker.faults.clear()
        world.broker.is_away = False
        world.redis_is_away = False
        world.database.is_away = world.database.is_read_only = False
        world.database.lose_next.clear()
        for process in list(world.processes.values()):
            process.crash_in = None
            process.stop_in = None
            process.drift_ppm = 0
        # A bot that only sent a message repeats it until it is answered, which must be safe.
        answered = set() if "failover" in world.marks else world.answered
        for (account, intent_id), about in self.submitted.items():
            if ("orders.submit_order", account, intent_id) not in answered:
                self._say("orders.submit_order", about)
        for account, intent_id in sorted(self.cancels):
            if ("orders.cancel_order", account, intent_id) not in answered:
                self._say_cancel(account, intent_id)

    # -- bots

    def _submit(self, about: dict[str, Any]) -> None:
        way = about.pop("way")
        key = about["account"], about["intent_id"]
        if about.pop("is_dated", False) and way == "message":
            about["submitted_at"] = moment(self.world.scheduler.now_us).isoformat()
        about = self.submitted.setdefault(key, about)
        if way == "message":
            self._say("orders.submit_order", about)
        else:
            self._bot("record", lambda: self._record(about))

    def _record(self, about: dict[str, Any]) -> None:
        given = {name: value for name, value in about.items() if name not in ("account", "side")}
        service = OrderExecutionService(about["account"])
        buys = about["side"] == "BUY"
        try:
            with transaction.atomic():
                (service.execute_buy_order if buys else service.execute_sell_order)(**given)
        except InvalidIntent:
            return

    def _cancel(self, about: dict[str, Any]) -> None:
        self.cancels.add((about["account"], about["intent_id"]))
        self._say_cancel(about["account"], about["intent_id"])

    def _say_cancel(self, account: str, intent_id: str) -> None:
        about = {"account": account, "intent_id": intent_id}
        self._say("orders.cancel_order", {**about, "requested_by": "bot", "reason": "story"})

    def _say(self, task: str, kwargs: dict[str, Any]) -> None:
        """Send a message as a bot does: again, until the broker takes it."""

        def say() -> None:
            while True:
                try:
                    self.world.broker.send(task, (), kwargs)
                except BrokerAway:
                    self.world.scheduler.sleep(1.0)
                else:
                    return

        self.world.spawn_person("bot", say)

    def _bot(self, what: str, work: Callable[[], None]) -> None:
        """Do something that waits for the database while it is away."""

        def patiently() -> None:
            while True:
                try:
                    work()
                except Exception as error:
                    if not is_database_away(error):
                        raise
                    for wrapper in connections.all(initialized_only=True):
                        wrapper.close()
                    self.world.scheduler.sleep(0.5)
                else:
                    return

        self.world.spawn_person(what, patiently)

    # -- people

    def _new_account(self, about: dict[str, Any]) -> None:
        def add() -> None:
            self.world.add_account(about["name"])
            for pause, order in about["orders"]:
                self.world.scheduler.after(pause, partial(self._submit, dict(order)))

        self._bot("account", add)

    def _limits(self, about: dict[str, Any]) -> None:
        for account in ExchangeAccount.objects.all():
            RiskLimit.objects.create(account=account, max_open_orders=about["open_orders"])
            first = LimitChange(about["open_orders"], frozenset())
            self.limit_changes[account.name] = [first]
        connections.close_all()

    def _review_rule(self, about: dict[str, Any]) -> None:
        self.review_above = Decimal(about["above"])
        ReviewRule.objects.create(notional_above=self.review_above)
        connections.close_all()

    def _review(self, about: dict[str, Any]) -> None:
        """Look for the held order, think, and release or reject what was seen."""
        scheduler = self.world.scheduler
        if about["verdict"] == "nothing":
            return

        def decide() -> None:
            rows = Order.objects.select_related("account").filter(
                account__name=about["account"], intent_id=about["intent_id"]
            )
            for _ in range(20):
                order = rows.filter(status=OrderStatus.HELD).first()
                if order is not None:
                    break
                scheduler.sleep(0.5)
            else:
                return
            seen = order.version
            scheduler.sleep(about["thinks"])
            order = rows.get()
            if about["verdict"] == "release":
                done = release_held(order, released_by="second", reason="story", seen_version=seen)
            else:
                done = reject_held(order, rejected_by="second", reason="story", seen_version=seen)
            self.world.marks.add(f"review: {about['verdict']}" if done else "review came too late")

        self._bot("review", decide)

    def _halt(self, about: dict[str, Any]) -> None:
        name = about["account"]
        world = self.world

        def halt() -> None:
            task = world.scheduler.mine()
            assert task is not None
            account = ExchangeAccount.objects.get(name=name) if name else None
            claims = world.database.claims_before(
                task,
                lambda: halt_trading(account=account, reason="story", actor="person"),
            )
            world.marks.add("halt")
            world.halts.append(Halt(name, claims))
            if about["cancels"]:
                rows = Order.objects.exclude(status__in=[*CLOSED])
                rows = rows.filter(account=account) if account else rows
                cancel_orders(
                    list(rows.values_list("pk", flat=True)),
                    requested_by="person",
                    reason="story",
                    give_up_at=clock.monotonic() + 10,
                )
            world.scheduler.sleep(about["for"])
            account = ExchangeAccount.objects.get(name=name) if name else None
            number = world.database.event_number()
            for known in world.halts:
                if known.account == name and known.last_event is None:
                    known.last_event = number  # it may lift the halts of others, too
            with suppress(NewerHalt):
                resume_trading(account=account, reason="story", actor="person")

        self._bot("halt", halt)
