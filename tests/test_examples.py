"""Check that the examples do what the README shows."""

from __future__ import annotations

import csv
import importlib.util
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import current_app
from django.core.management import call_command

from exchanges.models import Environment, ExchangeAccount
from orders.models import Order
from tests.fakes import FakeExchange
from tests.harness.processes import ROOT, ChildProcess
from tests.harness.scenario import Scenario
from tests.harness.waiting import wait_for

ORDERS = ROOT / "examples" / "orders.csv"
PROGRAM = ROOT / "examples" / "orchestrator.py"


# -- orders.csv ----------------------------------------------------------------------------------


def test_orders_csv__is_forty_orders_of_every_kind() -> None:
    with ORDERS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["intent_id"] for row in rows}) == len(rows) == 40
    assert {row["symbol"] for row in rows} == {
        *("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ETHBTC"),
    }
    assert {row["order_type"] for row in rows} == {
        *("MARKET", "LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"),
    }
    assert {row["time_in_force"] for row in rows} == {"", "GTC", "IOC", "FOK"}
    assert any(row["quote_quantity"] for row in rows)


@pytest.mark.django_db
def test_orders_csv__every_order_is_accepted_with_the_simulators_first_balances() -> None:
    """Let the price walk, so no test depends on being within one percent of it."""
    ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    current_app.conf.task_always_eager = True
    try:
        with FakeExchange({"USDT": "100000", "BTC": "1"}).installed():
            call_command("send_orders", str(ORDERS), "--wait")
    finally:
        current_app.conf.task_always_eager = False
    assert Counter(Order.objects.values_list("status", flat=True)) == {
        "FILLED": 19,
        "NEW": 19,
        "EXPIRED": 2,
    }


# -- orchestrator.py -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("orchestrator", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["orchestrator"] = module
    spec.loader.exec_module(module)
    return module


class FakeDesk:
    """A desk with scripted answers."""

    def __init__(self) -> None:
        self.placed: list[Any] = []
        self.canceled: list[str] = []
        self.answers: dict[str, Any] = {}
        self.earlier: list[Any] = []

    def place(self, intent: Any) -> None:
        self.placed.append(intent)

    def ask(self, intent: Any) -> Any:
        return self.answers.get(intent.intent_id)

    def cancel(self, intent: Any, reason: str) -> None:
        self.canceled.append(intent.intent_id)

    def left_over(self) -> list[Any]:
        return self.earlier


class Bot:
    """An orchestrator on a fake desk, with a clock of its own."""

    def __init__(
        self, program: ModuleType, monkeypatch: pytest.MonkeyPatch, desk: FakeDesk | None = None
    ) -> None:
        self.program = program
        self.desk = desk or FakeDesk()
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.orchestrator = program.TradingOrchestrator(self.desk, random.Random(1))

    def hear(self, symbol: str = "BTCUSDT", price: str = "60000", momentum: str = "0.001") -> None:
        self.orchestrator.act(self.program.Signal(symbol, Decimal(price), Decimal(momentum)))

    def answer(self, status: str, *, filled: str = "0", number: int = -1) -> None:
        intent_id = self.desk.placed[number].intent_id
        self.desk.answers[intent_id] = self.program.Answer(status, Decimal(filled), "because")
        self.orchestrator.review()


@pytest.fixture
def bot(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Bot:
    return Bot(program, monkeypatch)


def test_orchestrator__follows_the_momentum_with_well_formed_orders(bot: Bot) -> None:
    for number in range(60):
        bot.hear(momentum="0.001" if number % 2 else "-0.001")
    assert [intent.side for intent in bot.desk.placed] == ["SELL", "BUY"] * 30
    assert len({intent.intent_id for intent in bot.desk.placed}) == 60
    assert {intent.arguments["order_type"] for intent in bot.desk.placed} == {"LIMIT", "MARKET"}


def test_orchestrator__turns_back_when_its_position_is_large(bot: Bot) -> None:
    bot.orchestrator.positions["BTCUSDT"] = Decimal("0.1")
    bot.hear(momentum="0.001")
    assert bot.desk.placed[-1].side == "SELL"


def test_orchestrator__counts_what_was_filled(bot: Bot) -> None:
    bot.hear(momentum="0.001")
    bot.answer("FILLED", filled="0.002")
    bot.hear(momentum="-0.001")
    bot.answer("CANCELED", filled="0.0005")
    assert bot.orchestrator.positions["BTCUSDT"] == Decimal("0.0015")
    assert bot.orchestrator.live == []


@pytest.mark.parametrize("status", ["DENIED", "REJECTED"])
def test_orchestrator__leaves_a_symbol_alone_after_a_refusal(bot: Bot, status: str) -> None:
    bot.hear()
    bot.answer(status)
    bot.hear()
    bot.hear("ETHUSDT", price="2400")
    assert [intent.arguments["symbol"] for intent in bot.desk.placed] == ["BTCUSDT", "ETHUSDT"]
    bot.now += bot.program.BREAK_SECONDS
    bot.hear()
    assert len(bot.desk.placed) == 3


@pytest.mark.parametrize("status", ["CREATED", "PENDING_NEW"])
def test_orchestrator__not_knowing_is_no_refusal(bot: Bot, status: str) -> None:
    bot.hear()
    bot.now += 1000
    bot.answer(status)
    assert len(bot.orchestrator.live) == 1
    assert len(bot.desk.placed) == 1
    assert bot.desk.canceled == []


def test_orchestrator__cancels_once_what_rests_too_long(bot: Bot) -> None:
    bot.hear()
    bot.answer("NEW")
    assert bot.desk.canceled == []
    bot.now += bot.program.REST_SECONDS + 1
    bot.answer("NEW")
    bot.answer("PARTIALLY_FILLED")
    assert bot.desk.canceled == [bot.desk.placed[0].intent_id]
    assert len(bot.orchestrator.live) == 1


def test_orchestrator__takes_up_what_an_earlier_run_left(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = FakeDesk()
    desk.earlier = [program.Intent("earlier-1", "BUY", {"symbol": "BTCUSDT"})]
    bot = Bot(program, monkeypatch, desk)
    desk.answers["earlier-1"] = program.Answer("NEW", Decimal(0), "")
    bot.now += program.REST_SECONDS + 1
    bot.orchestrator.review()
    assert desk.canceled == ["earlier-1"]


def test_signals__tell_the_change_over_the_last_looks(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices: Iterator[Any] = iter([Decimal(100), Decimal(101), OSError("no answer"), Decimal(99)])

    def last_price(_url: str, _symbol: str) -> Decimal:
        price = next(prices)
        if isinstance(price, Exception):
            raise price
        return Decimal(price)

    monkeypatch.setattr(program, "SYMBOLS", ("BTCUSDT",))
    monkeypatch.setattr(program, "last_price", last_price)
    heard = program.signals("http://exchange", random.Random(1))
    momenta = [None if s is None else s.momentum for s in (next(heard) for _ in range(4))]
    assert momenta == [Decimal(0), Decimal("0.01"), None, Decimal("-0.01")]


def start(tmp_path: Path, scenario: Scenario, *options: str) -> ChildProcess:
    scenario.simulator.control.unfreeze()
    env = {**scenario.worker.env, "LOG_JSON": "off"}
    argv = [sys.executable, str(PROGRAM), "--pause", "0.2", "--seed", "4", *options]
    child = ChildProcess(
        "orchestrator", argv, env=env, log=tmp_path / "log", ready="-3: ", cwd=tmp_path
    )
    child.start()
    return child


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("options", [(), ("--wait",), ("--by-message",)])
def test_orchestrator__trades_through_a_worker_and_stops_at_once(
    scenario: Scenario, tmp_path: Path, options: tuple[str, ...]
) -> None:
    bot = start(tmp_path, scenario, *options)
    try:
        wait_for(lambda: "FILLED" in bot.output(), what="an order is filled, and the bot knows it")
        bot.running.send_signal(signal.SIGTERM)
        assert bot.running.wait(timeout=15) == 0
    finally:
        bot.stop()
    accepted = scenario.simulator.control.truth().orders()
    assert len({row["client_order_id"] for row in accepted}) == len(accepted) >= 1
    assert set(Order.objects.values_list("strategy", flat=True)) == {"momentum"}


def test_orchestrator__without_prices_says_so() -> None:
    env = {
        "PATH": "",
        "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    argv = [sys.executable, str(PROGRAM), "--account", "no-such"]
    ended = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.startswith("orchestrator: set --prices")


# -- round_trips.py ------------------------------------------------------------------------------


class Post:
    """A Celery application that only remembers the messages sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send_task(self, name: str, args: Any = None, *, kwargs: Any = None, **_: Any) -> None:
        self.sent.append((name, kwargs or args))


@pytest.fixture
def told_bot(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    module = importlib.import_module("round_trips")
    bot = module.RoundTrips(
        Post(), "demo", symbol="BTCUSDT", worth=Decimal(100), price=Decimal(50000), rounds=1
    )
    bot.next_round()
    return bot


def tell(
    told_bot: Any, version: int, status: str, *quantities: str, filled: str = "0", **changes: Any
) -> None:
    order = {
        "intent_id": "b-1", "strategy": "round-trips", "side": "BUY", "status": status,
        "filled_quantity": filled,
        "average_price": "50000", "reason": "", **changes,
    }  # fmt: skip
    fills = [
        {"quantity": quantity, "commission": "0.00001", "commission_asset": "BTC"}
        for quantity in quantities
    ]
    told_bot.order_changed(order, fills, version)


def test_round_trips__sells_what_it_bought_less_the_commission_and_once(told_bot: Any) -> None:
    assert told_bot.app.sent[0][0] == "orders.submit_order"
    del told_bot.app.sent[:]
    tell(told_bot, 2, "FILLED", filled="0.002")
    assert told_bot.app.sent == [], "the trades are not known yet"
    for _ in range(2):
        tell(told_bot, 3, "FILLED", "0.0015", "0.0005", filled="0.002")
    [(name, arguments)] = told_bot.app.sent
    assert (name, arguments["intent_id"], arguments["side"]) == (
        "orders.submit_order",
        "b-1-sell",
        "SELL",
    )
    assert (arguments["quantity"], arguments["price"]) == ("0.00198", "50100.00")


def test_round_trips__cancels_what_rests_for_too_long(told_bot: Any) -> None:
    del told_bot.app.sent[:]
    tell(told_bot, 1, "NEW")
    tell(told_bot, 2, "PARTIALLY_FILLED", "0.001", filled="0.001")
    assert told_bot.app.sent == [("orchestrator.rested", ("b-1",))], "one timer for one order"
    told_bot.rested("b-1")
    assert told_bot.app.sent[-1][0] == "orders.cancel_order"
    tell(told_bot, 3, "CANCELED", "0.001", filled="0.001")
    assert told_bot.app.sent[-1][1]["side"] == "SELL", "what was filled is ours"
    told_bot.rested("b-1")
    assert told_bot.app.sent[-1][0] == "orders.submit_order", "a closed order is not canceled"


def test_round_trips__ignores_what_is_older_or_anothers(told_bot: Any) -> None:
    del told_bot.app.sent[:]
    tell(told_bot, 5, "NEW")
    tell(told_bot, 4, "FILLED", "0.002", filled="0.002")
    tell(told_bot, 9, "FILLED", "0.002", filled="0.002", strategy="another")
    assert [name for name, _ in told_bot.app.sent] == ["orchestrator.rested"]
