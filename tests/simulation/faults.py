"""Let things go wrong: processes, network, broker, Redis, database and clocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exchanges.models import ExchangeAccount, TradingState
from exchanges.trading_state import resume_trading
from orders.placing.lost import begin_epoch
from tests.simulation.broker import MessageFault
from tests.simulation.hands import Hands
from tests.simulation.network import Fault, StreamFault
from tests.simulation.scheduler import Scheduler


class Faults(Hands):
    """The steps that break something."""

    submitted: dict[tuple[str, str], dict[str, Any]]

    def _say(self, task: str, kwargs: dict[str, Any]) -> None:
        raise NotImplementedError

    def _bot(self, what: str, work: Callable[[], None]) -> None:
        raise NotImplementedError

    def _halt(self, about: dict[str, Any]) -> None:
        raise NotImplementedError

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
        fault = Fault("lost after", "place", client_order_id=self._client_id(about))
        self.world.exchange.faults.append(fault)
        for stream in self.world.exchange.streams:
            until = self.world.scheduler.now_us + int(about["for"] * 1_000_000)
            stream.muted_until_us = until

    def _lost_and_amended(self, about: dict[str, Any], tries: int = 60) -> None:
        """Lose the answer, and amend the order by hand once it is there."""
        if tries == 60:
            self._lost_and_mute({**about, "for": 60.0})
        name = self._client_id(about)
        if self.world.exchange.accepted(name) or tries == 0:
            self._hand_amend(about)
            return
        self.world.scheduler.after(0.1, lambda: self._lost_and_amended(about, tries - 1))

    def _claim_stop(self, about: dict[str, Any]) -> None:
        """Stop a process between the gate and its claim's commit."""
        fault = Fault("stop", "claim", client_order_id=self._client_id(about))
        fault.seconds = about["for"]
        self.world.exchange.faults.append(fault)

    def _halt_in_claim(self, about: dict[str, Any]) -> None:
        """Stop a process between the gate and its claim's commit, and halt the account then."""
        fault = Fault("stop", "claim", client_order_id=self._client_id(about))
        fault.seconds = about["stops"]
        fault.then = lambda: self._halt({**about, "for": 8.0, "cancels": False})
        self.world.exchange.faults.append(fault)

    def _reset(self, about: dict[str, Any]) -> None:
        """Let the exchange lose all orders and trades, and let a person tell the back office."""
        world = self.world
        world.exchange.begin_anew()
        world.reset_at_us = world.scheduler.now_us
        world.marks.add("reset")
        self._bot("epoch", lambda: self._begin_epochs(world.scheduler, about["after"]))

    def _begin_epochs(self, scheduler: Scheduler, after: float) -> None:
        scheduler.sleep(after)
        for account in ExchangeAccount.objects.order_by("name"):
            begin_epoch(account=account.name, begun_by="person", reason="the exchange was reset")
            account.refresh_from_db()
            if account.trading_state == TradingState.HALTED:
                resume_trading(account=account, reason="story", actor="person")

    def _sender_stop(self, about: dict[str, Any]) -> None:
        fault = Fault("stop", "note", client_order_id=self._client_id(about))
        fault.seconds = about["for"]
        self.world.exchange.faults.append(fault)

    def _lost_in_flight(self, about: dict[str, Any]) -> None:
        """Fail over while the request of an intent is on its way, and let its bot repeat it."""
        fault = Fault("late engine", "place", client_order_id=self._client_id(about))
        fault.seconds = about["seconds"]
        self.world.exchange.faults.append(fault)
        self._failover(about)
        key = about["account"], about["intent_id"]

        def again() -> None:
            if key in self.submitted:
                self._say("orders.submit_order", self.submitted[key])

        self.world.scheduler.after(about["loses"] + about["again"], again)

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
        self.world.marks.add("clock steps")
        self.world.scheduler.after(15.0, lambda: setattr(process, "offset_us", 0))

    def _clock_drift(self, about: dict[str, Any]) -> None:
        process = self.world.processes[about["process"]]
        process.drift_ppm = about["rate"] * 1000
        process.drifts_since_us = self.world.scheduler.now_us
        self.world.marks.add("clock drifts")

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
        self.world.backed_up_at_us = self.world.scheduler.now_us

        def take_over() -> None:
            self.world.scheduler.trace("failover", f"loses {about['loses']} s")
            database.restore()
            moments = (self.world.backed_up_at_us, self.world.scheduler.now_us)
            self.world.lost_moments["database"].append(moments)
            self.world.marks.add("failover")

        self.world.scheduler.after(about["loses"], take_over)
