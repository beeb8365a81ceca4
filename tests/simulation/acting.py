"""Let the steps of a story happen in the world."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.db import connections, transaction

from exchanges import clock
from exchanges.models import ExchangeAccount
from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.types import EngineError, units
from exchanges.simulator.errors import ApiError
from exchanges.trading_state import NewerHalt, halt_trading, resume_trading
from orders.db_retry import is_database_away
from orders.execution import OrderExecutionService
from orders.ids import hash_for
from orders.intents import InvalidIntent
from orders.models import Order, RiskLimit
from orders.placing.cancel_many import cancel_orders
from orders.states import CLOSED
from tests.simulation.broker import BrokerAway, MessageFault
from tests.simulation.network import BY_HAND, Fault, StreamFault
from tests.simulation.story import Step
from tests.simulation.world import Halt, World


class Actor:
    """Everybody and everything outside the back office."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.submitted: dict[tuple[str, str], dict[str, Any]] = {}
        self.cancels: set[tuple[str, str]] = set()
        self.limits: dict[str, int] = {}
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
        world.exchange.slowness = 1.0
        world.exchange.simulator.lags.clear()
        for stream in world.exchange.streams:
            stream.muted_until_us = 0
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
        self.submitted.setdefault(key, about)
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

    def _limits(self, about: dict[str, Any]) -> None:
        for account in ExchangeAccount.objects.all():
            RiskLimit.objects.create(account=account, max_open_orders=about["open_orders"])
            self.limits[account.name] = about["open_orders"]
        connections.close_all()

    def _halt(self, about: dict[str, Any]) -> None:
        name = about["account"]
        world = self.world

        def halt() -> None:
            account = ExchangeAccount.objects.get(name=name) if name else None
            halt_trading(account=account, reason="story", actor="person")
            world.marks.add("halt")
            world.halts.append(Halt(name, world.database.event_number()))
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

    # -- hands at the exchange

    def _client_id(self, about: dict[str, Any]) -> str:
        hashed = hash_for(
            environment="simulator", account=about["account"], intent_id=about["intent_id"]
        )
        return f"bo-{hashed}-1"

    def _at_exchange(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (ApiError, EngineError, KeyError, ValueError):
            return  # the exchange refuses it: there is no such open order now
        finally:
            self.world.exchange.publish()
        self.world.marks.add("hand")

    def _fill(self, about: dict[str, Any]) -> None:
        exchange = self.world.exchange

        def fill() -> None:
            order = exchange._order(self._client_id(about))
            step = 1000  # 0.00001
            quantity = int(order.remaining * about["share"]) // step * step
            exchange.simulator.engine.fill(order.symbol, order.order_id, quantity or None)

        self._at_exchange(fill)

    def _hand_cancel(self, about: dict[str, Any]) -> None:
        self._at_exchange(lambda: self.world.exchange.cancel(self._client_id(about)))

    def _expire(self, about: dict[str, Any]) -> None:
        self._at_exchange(lambda: self.world.exchange.expire(self._client_id(about)))

    def _hand_amend(self, about: dict[str, Any]) -> None:
        exchange = self.world.exchange
        self.hand_numbers += 1

        def amend() -> None:
            order = exchange._order(self._client_id(about))
            quantity = order.quantity // 2 // 10000 * 10000
            exchange.simulator.engine.amend(
                order.account_id,
                order.symbol,
                quantity,
                order_id=order.order_id,
                new_client_order_id=f"{BY_HAND}-{self.hand_numbers}",
            )
            self.world.marks.add("amended by hand")

        self._at_exchange(amend)

    def _hand_reuse(self, about: dict[str, Any]) -> None:
        """Use a client order id of ours again, as Binance allows once its order is closed."""
        name = self._client_id(about)
        if self.world.exchange.accepted(name):
            self._hand_order(about, name)

    def _hand_order(self, about: dict[str, Any], client_order_id: str = "") -> None:
        exchange, account = self.world.exchange, about["account"]
        self.hand_numbers += 1
        parameters = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01",
            "price": "54000",
            "newClientOrderId": client_order_id or f"{BY_HAND}-{self.hand_numbers}",
            "timestamp": str(exchange.simulator.clock.now_ms()),
        }
        incoming = exchange._incoming(account, "POST", "/api/v3/order", parameters)

        def place() -> None:
            exchange._dispatcher.carry_out(
                incoming, exchange._dispatcher.receive(incoming, None), None
            )

        self._at_exchange(place)

    def _deposit(self, about: dict[str, Any]) -> None:
        engine = self.world.exchange.simulator.engine
        self._at_exchange(lambda: engine.deposit(about["account"], "USDT", units("1000")))

    def _symbol_pause(self, about: dict[str, Any]) -> None:
        engine = self.world.exchange.simulator.engine
        engine.set_status(about["symbol"], SymbolStatus.BREAK)
        self._later(about, lambda: engine.set_status(about["symbol"], SymbolStatus.TRADING))

    # -- faults

    def _later(self, about: dict[str, Any], undo: Callable[[], None]) -> None:
        self.world.scheduler.after(about["for"], undo)

    def _call_fault(self, about: dict[str, Any]) -> None:
        self.world.exchange.faults.append(Fault(**about))

    def _crash(self, about: dict[str, Any]) -> None:
        process = self.world.processes[about["process"]]
        if not process.is_dead:
            process.crash_in = about["after"]

    def _crash_all(self, about: dict[str, Any]) -> None:
        for process in list(self.world.processes.values()):
            self.world.scheduler.kill(process)

    def _message_fault(self, about: dict[str, Any]) -> None:
        self.world.broker.faults.append(MessageFault(**about))

    def _stream_fault(self, about: dict[str, Any]) -> None:
        self.world.exchange.stream_faults.append(StreamFault(**about))

    def _lost_and_mute(self, about: dict[str, Any]) -> None:
        self.world.exchange.faults.append(Fault("lost after", "place", about["account"]))
        for stream in self.world.exchange.streams:
            stream.muted_until_us = self.world.scheduler.now_us + 60_000_000

    def _cut_streams(self, about: dict[str, Any]) -> None:
        self.world.exchange.cut_streams()

    def _lag(self, about: dict[str, Any]) -> None:
        simulator = self.world.exchange.simulator
        simulator.set_lags(dict.fromkeys(about["kinds"].split(), about["seconds"]))
        self._later(about, lambda: simulator.set_lags(dict.fromkeys(about["kinds"].split(), 0.0)))

    def _session_loss(self, about: dict[str, Any]) -> None:
        self.world.database.lose_next.append((about["process"], about["when"]))

    def _database_away(self, about: dict[str, Any]) -> None:
        database = self.world.database
        database.is_away = True
        database.end_sessions()
        self.world.marks.add("database away")
        self._later(about, lambda: setattr(database, "is_away", False))

    def _read_only(self, about: dict[str, Any]) -> None:
        database = self.world.database
        database.is_read_only = True
        self._later(about, lambda: setattr(database, "is_read_only", False))

    def _redis_away(self, about: dict[str, Any]) -> None:
        self.world.redis_is_away = True
        self._later(about, lambda: setattr(self.world, "redis_is_away", False))

    def _redis_flush(self, about: dict[str, Any]) -> None:
        self.world.redis.flush()

    def _broker_away(self, about: dict[str, Any]) -> None:
        self.world.broker.is_away = True
        self._later(about, lambda: setattr(self.world.broker, "is_away", False))

    def _broker_flush(self, about: dict[str, Any]) -> None:
        self.world.broker.flush()

    def _exchange_away(self, about: dict[str, Any]) -> None:
        exchange = self.world.exchange
        exchange.is_away = True
        exchange.cut_streams()
        self._later(about, lambda: setattr(exchange, "is_away", False))

    def _slow(self, about: dict[str, Any]) -> None:
        exchange = self.world.exchange
        exchange.slowness = 30.0
        self._later(about, lambda: setattr(exchange, "slowness", 1.0))

    def _clock_step(self, about: dict[str, Any]) -> None:
        process = self.world.processes[about["process"]]
        process.offset_us += int(about["seconds"] * 1_000_000)
        self.world.scheduler.after(15.0, lambda: setattr(process, "offset_us", 0))

    def _pause(self, about: dict[str, Any]) -> None:
        process = self.world.processes[about["process"]]
        scheduler = self.world.scheduler
        process.paused_until_us = scheduler.now_us + int(about["for"] * 1_000_000)

    def _stop(self, about: dict[str, Any]) -> None:
        process = self.world.processes[about["process"]]
        process.stop_in, process.stop_seconds = about["after"], about["for"]

    def _failover(self, about: dict[str, Any]) -> None:
        database = self.world.database
        database.back_up()

        def take_over() -> None:
            self.world.scheduler.trace("failover", f"loses {about['loses']} s")
            database.restore()
            self.world.marks.add("failover")

        self.world.scheduler.after(about["loses"], take_over)
