"""The exchange and the network to it: the simulator's engine, reached in virtual time.

A request flies to the exchange, is received there, waits for the engine, is executed, and its
answer flies back. Each of these steps is a moment of the scheduler, so other requests, crashes and
time-outs come between them. A request that is on its way is executed whatever becomes of its
sender.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings

from exchanges.binance.error_table import Transport
from exchanges.binance.gateway import Gateway
from exchanges.binance.http import HttpResult
from exchanges.binance.server_clock import clock_of
from exchanges.credentials import Account
from exchanges.simulator.api.dispatch import Dispatcher
from exchanges.simulator.api.messages import MILLISECONDS, Incoming, Reply
from exchanges.simulator.api.params import Params
from exchanges.simulator.api.render.events import event_row
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.events import Event
from exchanges.simulator.engine.types import units
from exchanges.simulator.exchange.clock import ServerClock as SimulatorClock
from exchanges.simulator.exchange.exchange import Exchange, Settings
from exchanges.simulator.exchange.rate_limits import LimitSettings
from exchanges.simulator.server.rest import ROUTES
from tests.fakes import METHODS, SECRET, FakeExchange
from tests.simulation.scheduler import Scheduler

SYMBOLS = ("BTCUSDT", "ETHUSDT")
HOST = "simulated-exchange"
# A cancel by hand on the exchange's own screen, and the like.
BY_HAND = "hand"
_MOMENTS = ("claim", "note")
_LATE = ("late request", "late engine", "early answer")


@dataclass(slots=True)
class Fault:
    """A fault of the next call of this name (empty: of any) of an account (empty: of any)."""

    what: str
    call: str = ""
    account: str = ""
    seconds: float = 0.0
    status: int = 503
    code: int | None = None
    text: str = ""
    client_order_id: str = ""  # of the only order that it is about, or of any
    then: Callable[[], None] | None = None  # what happens while a process stands still


@dataclass(slots=True)
class StreamFault:
    """A fault of the next event of an account."""

    what: str  # drop, double, delay, reset
    account: str
    seconds: float = 0.0


@dataclass(slots=True)
class Placed:
    """One order that the exchange accepted, as the oracle needs it."""

    account: str
    symbol: str
    client_order_id: str
    order_id: int
    at_us: int
    open_before: int
    life: int  # of the exchange: one more after each reset


@dataclass(eq=False)
class Stream:
    """One connection of the private stream. `frames` are the ones that have arrived."""

    account: str
    frames: list[str] = field(default_factory=list)
    is_open: bool = True
    muted_until_us: int = 0


class SimExchange(FakeExchange):
    """The engine on the simulation's clock, with two symbols and a record of what it accepted."""

    def __init__(self, scheduler: Scheduler, seed: int, balances: dict[str, str]) -> None:
        super().__init__(balances)
        self.scheduler = scheduler
        self.clock = clock = _Clock(scheduler)

        class Simulator(Exchange):
            def _build(self) -> None:
                self.clock = clock
                super()._build()

        self.simulator = Simulator(  # type: ignore[assignment]
            Settings(seed=seed),
            limits=LimitSettings(request_weight=10**9),
            order_limits=(),
            symbols=[spec for spec in DEFAULT_SYMBOLS if spec.symbol in SYMBOLS],
        )
        self._dispatcher = Dispatcher(self.simulator)
        self.simulator.listeners.append(self._deliver)
        self.faults: list[Fault] = []
        self.stream_faults: list[StreamFault] = []
        self.streams: list[Stream] = []
        self.placed: list[Placed] = []
        self.is_away = False
        self.refused_keys: set[str] = set()  # by their account
        self.slowness = 1.0
        self.life = 0
        self.under_way = 0
        self.longest_call = 0.0

    def add(self, account: str) -> None:
        """Open the account with the first balances, if it isn't open yet."""
        if account in self.simulator.engine.accounts:
            return
        amounts = {asset: units(amount) for asset, amount in self.balances.items()}
        self.simulator.add_account(account, amounts)
        self.simulator.add_key(account, SECRET, account)

    def gateway(self, account: Account) -> Gateway:  # type: ignore[override]
        self.add(account.name)
        return SimGateway(account, self)

    def publish(self) -> None:
        self.simulator.publish()

    def begin_anew(self) -> None:
        """Lose all orders and trades, as a testnet does. All numbers begin again."""
        self.life += 1
        self.simulator.wipe()
        self.cut_streams()

    # -- a request, step by step

    def call(self, account: str, method: str, parameters: dict[str, str]) -> HttpResult:
        """Send one request and wait for its answer, in virtual time."""
        verb, path, name = METHODS[method]
        scheduler = self.scheduler
        subject = parameters.get("newClientOrderId") or parameters.get("origClientOrderId", "")
        scheduler.boundary("call", f"{name} {account} {subject}")
        fault = self._fault_of(name, account, subject)
        if self.is_away or (fault is not None and fault.what == "unsent"):
            scheduler.sleep(0.05)
            return HttpResult(Transport.UNSENT, "no connection to the exchange")
        self.calls.append((name, dict(parameters)))
        if account in self.refused_keys and ROUTES[(verb, path)].signed:
            scheduler.sleep(0.02)
            return _REFUSED_KEY
        answer: list[HttpResult] = []
        self._send(account, verb, path, parameters, fault, answer)
        timeout = settings.EXCHANGE_REQUEST_TIMEOUT_MS / 1000  # of the process that sends it
        answered = scheduler.wait(lambda: bool(answer), timeout)
        scheduler.boundary("answer", f"{name} {account}")
        if not answered:
            return HttpResult(Transport.LOST, "no complete answer from the exchange")
        return answer[0]

    def delay(self, moment: str, client_order_id: str) -> None:
        """Stop the running process if a fault asks for it.

        `moment` is "claim" (the gate has decided, and nothing is written yet) or "note" (the claim
        has committed, and nothing is sent yet).
        """
        fault = self._fault_of(moment, "", client_order_id)
        task = self.scheduler.mine()
        if fault is None or task is None:
            return
        task.process.paused_until_us = self.scheduler.now_us + int(fault.seconds * 1_000_000)
        if fault.then is not None:
            self.scheduler.after(0.02, fault.then)
        self.scheduler.boundary("stopped", f"{task.process.name} for {fault.seconds} s")

    def _fault_of(self, name: str, account: str, subject: str) -> Fault | None:
        for fault in self.faults:
            is_its_call = fault.call == name or (not fault.call and name not in _MOMENTS)
            is_its_call = is_its_call and fault.account in ("", account)
            if is_its_call and fault.client_order_id in ("", subject):
                self.faults.remove(fault)
                self.scheduler.trace("fault", f"{fault.what} {name} {account}")
                return fault
        return None

    def _send(
        self,
        account: str,
        verb: str,
        path: str,
        parameters: dict[str, str],
        fault: Fault | None,
        answer: list[HttpResult],
    ) -> None:
        """Begin the journey of a request. Its answer, if any, is put into `answer`."""
        random = self.scheduler.random
        flight = random.uniform(0.002, 0.03) * self.slowness
        what = fault.what if fault is not None else ""
        if what == "answer":  # in place of the execution
            assert fault is not None
            refusal = _refusal(fault)
            self._later(flight * 2, lambda: answer.append(refusal))
            return
        if what == "lost before":
            return
        if what == "early answer":  # of something in between, that didn't wait for the engine
            assert fault is not None
            unknown = _refusal(fault)
            self._later(flight * 2, lambda: answer.append(unknown))
        late = fault.seconds if fault is not None and what in _LATE else 0.0
        incoming = self._incoming(account, verb, path, parameters)

        def answered(reply: Reply) -> None:
            if what in ("lost after", "early answer"):
                return
            back = flight + (fault.seconds if fault is not None and what == "late answer" else 0.0)
            result = (
                _refusal(fault) if fault is not None and what == "wrong answer" else _result(reply)
            )
            self._later(back, lambda: answer.append(result))

        def received() -> None:
            try:
                accepted = self._dispatcher.receive(incoming, None)
            except Exception as error:  # noqa: BLE001  as the dispatcher does
                answered(self._dispatcher._failed(incoming, error))
                return
            engine = random.uniform(0.0005, 0.01) + (late if what != "late request" else 0.0)
            self._later(engine, lambda: answered(self._executed(incoming, accepted)))

        self._later(flight + (late if what == "late request" else 0.0), received)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self.under_way += 1

        def run() -> None:
            self.under_way -= 1
            action()

        self.scheduler.after(seconds, run)

    def _executed(self, incoming: Incoming, accepted: Any) -> Reply:
        account = accepted.call.key.account if accepted.call.key else ""
        places = incoming.operation.places
        before = self._open_orders(account) if places else 0
        try:
            reply = self._dispatcher.carry_out(incoming, accepted, None)
        except Exception as error:  # noqa: BLE001  as the dispatcher does
            return self._dispatcher._failed(incoming, error)
        if places and reply.error is None:
            values = incoming.params.values
            order_id = int(reply.body["orderId"])
            name = values.get("newClientOrderId", "")
            self.scheduler.trace("accepted", f"{account} {name}")
            self.placed.append(
                Placed(
                    account,
                    values["symbol"],
                    name,
                    order_id,
                    self.scheduler.now_us,
                    before,
                    self.life,
                )
            )
        return reply

    def _open_orders(self, account: str) -> int:
        return len(self.simulator.engine.open_orders(account, None))

    def _incoming(self, account: str, verb: str, path: str, parameters: dict[str, str]) -> Incoming:
        operation = ROUTES[(verb, path)]
        payload = urlencode(parameters, quote_via=quote).encode()
        signed = {**parameters, "signature": hmac.digest(SECRET.encode(), payload, "sha256").hex()}
        return Incoming(
            api="rest",
            ip="127.0.0.1",
            operation=operation,
            params=Params(signed if operation.signed else dict(parameters)),
            api_key=account,
            payload=payload,
        )

    # -- the private stream

    def subscribe(self, account: str) -> Stream:
        stream = Stream(account)
        self.streams.append(stream)
        return stream

    def _deliver(self, events: list[Event]) -> None:
        now = self.scheduler.now_us
        for event in events:
            row = event_row(event, now, MILLISECONDS)
            frame = json.dumps({"subscriptionId": 0, "event": row})
            for stream in self.streams:
                if stream.account == event.account_id and stream.is_open:
                    self._emit(stream, frame)

    def _emit(self, stream: Stream, frame: str) -> None:
        if self.scheduler.now_us < stream.muted_until_us:
            return
        flight = self.scheduler.random.uniform(0.001, 0.04) * self.slowness
        fault = next((f for f in self.stream_faults if f.account == stream.account), None)
        copies = 1
        if fault is not None:
            self.stream_faults.remove(fault)
            self.scheduler.trace("stream", f"{fault.what} {stream.account} {fault.seconds:.1f}")
            if fault.what == "drop":
                return
            if fault.what == "mute":
                stream.muted_until_us = self.scheduler.now_us + int(fault.seconds * 1_000_000)
                return
            if fault.what == "reset":
                stream.is_open = False
                return
            copies += fault.what == "double"
            flight += fault.seconds  # later ones overtake it
        for number in range(copies):
            self._later(flight + number * 0.01, lambda: stream.frames.append(frame))

    def cut_streams(self, account: str = "") -> None:
        for stream in self.streams:
            if account in ("", stream.account):
                stream.is_open = False
        self.streams = [stream for stream in self.streams if stream.is_open]


_REFUSED_KEY = HttpResult(
    Transport.ANSWERED,
    "Invalid API-key, IP, or permissions for action.",
    401,
    body={"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
    is_json=True,
    code=-2015,
)


def _refusal(fault: Fault) -> HttpResult:
    return HttpResult(
        Transport.ANSWERED,
        fault.text or f"HTTP {fault.status} with a body that is not JSON",
        fault.status,
        body=None if fault.code is None else {"code": fault.code, "msg": fault.text},
        is_json=fault.code is not None,
        code=fault.code,
        retry_after=(fault.seconds or None) if fault.what == "answer" else None,
    )


def _result(reply: Reply) -> HttpResult:
    if reply.error is not None:
        return HttpResult(
            Transport.ANSWERED,
            reply.error.message,
            reply.status,
            body=reply.payload(),
            is_json=True,
            code=reply.error.code,
        )
    body = json.loads(json.dumps(reply.body))
    return HttpResult(Transport.ANSWERED, "", 200, body=body, is_json=True)


class SimGateway(Gateway):
    """The real gateway with the simulated network below it."""

    def __init__(self, account: Account, exchange: SimExchange) -> None:
        self.account_name = account.name
        self._account = account
        self._host = HOST
        self._wire = _SimWire(account.name, exchange)
        self._clock = clock_of(HOST)
        measuring: Any = self._clock._measuring
        if not isinstance(measuring, _Lock):
            self._clock._measuring = _Lock(exchange.scheduler)  # type: ignore[assignment]


class _SimWire:
    def __init__(self, account_name: str, exchange: SimExchange) -> None:
        self._account_name = account_name
        self._exchange = exchange

    def send(self, method: str, parameters: dict[str, str]) -> HttpResult:
        return self._exchange.call(self._account_name, method, parameters)

    def cleaned(self, text: str) -> str:
        return text

    def close(self) -> None:
        """Do nothing, because nothing is open."""


class _Lock:
    """A lock that is held across a call: who waits for it lets others run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_held = False

    def acquire(self, *, blocking: bool = True) -> bool:
        if self._is_held and not blocking:
            return False
        if self._is_held:
            self._scheduler.wait(lambda: not self._is_held)
        self._is_held = True
        return True

    def release(self) -> None:
        self._is_held = False


class _Clock(SimulatorClock):
    """The exchange's clock: the true time plus its own error, which may step and drift."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._drift_ppm = 0
        self._drifts_since_us = 0

    def now_us(self) -> int:
        now = self._scheduler.now_us
        drifted = (now - self._drifts_since_us) * self._drift_ppm // 1_000_000
        return now + self.offset_us + drifted

    def drift(self, ppm: int) -> None:
        """Go on from the present error at this rate."""
        self.offset_us = self.now_us() - self._scheduler.now_us
        self._drift_ppm, self._drifts_since_us = ppm, self._scheduler.now_us
