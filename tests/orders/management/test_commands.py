"""Check the commands: their arguments, effects, output and exit status."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from exchanges import clock
from exchanges.binance import registry
from exchanges.models import ExchangeAccount, TradingHalt
from orders.management import watch
from orders.management.order_file import BadFile, read_order_file
from orders.models import BreakKind, Order
from orders.stopping import Scope
from tests.factories import ExchangeAccountFactory, OrderFactory, ReconciliationBreakFactory
from tests.fakes import FakeExchange
from tests.harness.redis import TestRedis
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.steps import as_a_restore, submit

HEADER = "intent_id,symbol,side,order_type,quantity,price"
RESTING = "BTCUSDT,BUY,LIMIT,0.01,50000"


@dataclass
class Said:
    """The output and exit status of a command."""

    out: str
    err: str
    status: int


def run(name: str, *arguments: str) -> Said:
    """Run `manage.py NAME ARGUMENTS` in this process."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    try:
        call_command(name, *arguments, stdout=out, stderr=err, no_color=True)
    except CommandError as error:
        status = error.returncode
        err.write(f"CommandError: {error}\n")
    except SystemExit as end:
        status = int(str(end.code))
    return Said(out.getvalue(), err.getvalue(), status)


@pytest.fixture
def exchange(db: None, redis_server: TestRedis) -> Iterator[FakeExchange]:
    """Use an empty Redis, so that no limits or breakers remain from other tests."""
    with FakeExchange().installed() as exchange:
        yield exchange


@pytest.fixture
def fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waiting take no time: the clock jumps ahead instead."""
    skipped = 0.0
    real_monotonic = clock.monotonic

    def sleep(seconds: float) -> None:
        nonlocal skipped
        skipped += seconds

    monkeypatch.setattr(clock, "sleep", sleep)
    monkeypatch.setattr(clock, "monotonic", lambda: real_monotonic() + skipped)


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


# -- the file ------------------------------------------------------------------------------------


def test_read_order_file__empty_cells_are_absent_and_lines_keep_their_numbers(
    tmp_path: Path,
) -> None:
    rows = [f"{HEADER},strategy", "", "a, BTCUSDT ,BUY,MARKET,1,,", ",,,,,,", "b,X,Y,Z,1,2,s", ""]
    first, second = read_order_file(
        written(tmp_path / "o.csv", b"\xef\xbb\xbf" + "\r\n".join(rows).encode())
    )
    assert (first.number, second.number) == (3, 5)
    assert first.arguments == {
        "intent_id": "a",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "MARKET",
        "quantity": "1",
    }
    assert second.arguments["strategy"] == "s"


def test_read_order_file__a_cell_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    text = f'{HEADER},strategy\na,{RESTING},"one, ""two""\nthree"\nb,{RESTING},\n'
    first, second = read_order_file(written(tmp_path / "o.csv", text))
    assert first.arguments["strategy"] == 'one, "two"\nthree'
    assert second.number == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no orders"),
        ("intent_id\n", "column 'symbol' is missing"),
        (HEADER + "\n", "holds no orders"),
        (HEADER + ",quantty\n", "unknown column 'quantty'; did you mean 'quantity'"),
        (HEADER + ",Stop Price\n", "did you mean 'stop_price'"),
        (HEADER + ",foo\n", "unknown column 'foo'; known are intent_id, account"),
        (HEADER + ",price\n", "column 'price' is there twice"),
        (HEADER.replace(",", ";") + "\n", "semicolons"),
        (f'{HEADER}\na,"{RESTING}\n', "line 2 is not CSV"),
        (b"intent_id,symbol\n\xff\xfe", "byte 18 is not UTF-8"),
        (b"PK\x03\x04\x14\x00\x08\x08", "unknown column"),
    ],
)
def test_read_order_file__a_bad_file_is_refused_whole(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    path = written(tmp_path / "o.csv", text)
    with pytest.raises(BadFile) as caught:
        read_order_file(path)
    assert problem in str(caught.value)


@pytest.mark.parametrize("cells", ["a,BTCUSDT,BUY", f"a,{RESTING},7", "a"])
def test_read_order_file__a_row_of_another_width_is_a_bad_line(tmp_path: Path, cells: str) -> None:
    bad, good = read_order_file(written(tmp_path / "o.csv", f"{HEADER}\n{cells}\nb,{RESTING}\n"))
    assert "the header names 6 columns" in bad.problem
    assert (good.number, good.problem) == (3, "")


def test_read_order_file__json_lines_are_known_by_name_or_by_content(tmp_path: Path) -> None:
    text = '\n{"intent_id": "a", "price": null, "stop_price": "", "place_within_seconds": 5}\n'
    for name in ("o.jsonl", "o.ndjson", "o.json", "o.txt", "o"):
        (line,) = read_order_file(written(tmp_path / name, text))
        assert (line.number, line.arguments) == (2, {"intent_id": "a", "place_within_seconds": 5})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"intent_id": ', "is not JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ('{"price": "1", "price": "2"}', "price: given twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_read_order_file__a_bad_json_line_leaves_the_others(
    tmp_path: Path, text: str, problem: str
) -> None:
    bad, good = read_order_file(written(tmp_path / "o.jsonl", f'{text}\n{{"intent_id": "a"}}\n'))
    assert problem in bad.problem
    assert good.arguments == {"intent_id": "a"}


# -- send_orders ---------------------------------------------------------------------------------


def test_send_orders__places_each_line_and_sums_up(
    tmp_path: Path, demo: ExchangeAccount, exchange: FakeExchange, eager: None
) -> None:
    rows = [f"rest,{RESTING}", "fill,BTCUSDT,BUY,MARKET,0.01,", "poor,BTCUSDT,BUY,LIMIT,90,50000"]
    said = run(
        "send_orders", str(written(tmp_path / "o.csv", "\n".join([HEADER, *rows]))), "--wait"
    )
    assert said.status == 0
    assert dict(Order.objects.values_list("intent_id", "status")) == {
        "rest": "NEW",
        "fill": "FILLED",
        "poor": "DENIED",
    }
    assert "3 of 3 orders enqueued." in said.out
    assert "NEW                   1  working" in said.out
    assert (
        "line 4     poor  DENIED  INSUFFICIENT_BALANCE: needs 4500000 USDT, but only " in said.out
    )


def test_send_orders__the_same_file_again_places_nothing(
    tmp_path: Path, demo: ExchangeAccount, exchange: FakeExchange, eager: None
) -> None:
    path = str(written(tmp_path / "o.csv", f"{HEADER}\na,{RESTING}\n"))
    assert run("send_orders", path).status == run("send_orders", path, "--wait").status == 0
    assert len(exchange.calls_of("place")) == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("x,BTCUSDT,BUY,LIMIT,1e3,50000", "line 2: quantity: '1e3'"),
        ("x,BTCUSDT,BUY,LIMIT,NaN,50000", "line 2: quantity: 'NaN'"),
        ("x,BTCUSDT,BUY,LIMIT,-1,50000", "line 2: quantity: '-1'"),
        ("x,BTCUSDT,BUY,LIMIT,0.01,", "line 2: price: is missing"),
        ("x,BTCUSDT,buy,LIMIT,0.01,50000", "line 2: side: 'buy'"),
        ("x,BTCUSDT,BUY,MARKET,0.01,50000", "line 2: price: 50000 is not allowed"),
        (",BTCUSDT,BUY,LIMIT,0.01,50000", "line 2: intent_id: is missing"),
        ("x y,BTCUSDT,BUY,LIMIT,0.01,50000", "line 2: intent_id: 'x y'"),
        ("good,BTCUSDT,BUY,LIMIT,0.01,50000", "line 3: intent_id: 'good' is already in line 2"),
        (
            "known,BTCUSDT,BUY,LIMIT,0.02,50000",
            "line 2: quantity: intent 'known' is known with 0.01, not 0.02",
        ),
    ],
)
def test_send_orders__a_bad_line_is_named_and_the_rest_still_go(
    tmp_path: Path,
    demo: ExchangeAccount,
    exchange: FakeExchange,
    eager: None,
    row: str,
    problem: str,
) -> None:
    submit("known")
    said = run(
        "send_orders",
        str(written(tmp_path / "o.csv", f"{HEADER}\n{row}\ngood,{RESTING}\n")),
        "--wait",
    )
    assert problem in said.err
    assert said.status == 1
    assert sorted(Order.objects.values_list("intent_id", "status")) == [
        ("good", "NEW"),
        ("known", "NEW"),
    ]
    assert "1 of 2 lines are bad" in said.err


def test_send_orders__each_line_may_name_its_account(
    tmp_path: Path, demo: ExchangeAccount, exchange: FakeExchange, eager: None
) -> None:
    ExchangeAccountFactory(name="second")
    rows = [f"a,{RESTING},second", f"b,{RESTING},", f"c,{RESTING},nobody"]
    path = str(written(tmp_path / "o.csv", "\n".join([f"{HEADER},account", *rows])))
    undecided = run("send_orders", path)
    assert (undecided.status, Order.objects.count()) == (1, 0)
    assert "Enabled: demo, second" in undecided.err
    said = run("send_orders", path, "--account", "demo")
    assert "line 4: account: there is no account named 'nobody'" in said.err
    assert sorted(Order.objects.values_list("intent_id", "account__name")) == [
        ("a", "second"),
        ("b", "demo"),
    ]


def test_send_orders__an_unknown_account_is_refused(tmp_path: Path, demo: ExchangeAccount) -> None:
    said = run(
        "send_orders",
        str(written(tmp_path / "o.csv", f"{HEADER}\na,{RESTING}\n")),
        "--account",
        "nobody",
    )
    assert (said.status, said.err) == (
        1,
        "CommandError: there is no account 'nobody'; known: demo\n",
    )


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_send_orders__an_unreadable_file_is_one_line(tmp_path: Path, db: None, name: str) -> None:
    said = run("send_orders", str(tmp_path / name))
    assert said.status == 1
    assert said.err.count("\n") == 1


def test_send_orders__without_a_broker_says_so_and_ends_with_2(
    tmp_path: Path, demo: ExchangeAccount, redis_server: TestRedis
) -> None:
    redis_server.stop()
    said = run("send_orders", str(written(tmp_path / "o.csv", f"{HEADER}\na,{RESTING}\n")))
    assert said.status == 2
    assert said.err.count("\n") == 1
    assert (
        f"the broker 127.0.0.1:{redis_server.server.port} does not answer: 0 of 1 order enqueued"
        in said.err
    )


def test_send_orders__names_the_moment_of_the_decision(
    tmp_path: Path, demo: ExchangeAccount, exchange: FakeExchange, eager: None
) -> None:
    """Count the deadline from here: a message that waits too long for a worker isn't sent."""
    before = clock.now()
    rows = [f"now,{RESTING},", f"old,{RESTING},{(before - timedelta(hours=1)).isoformat()}"]
    run(
        "send_orders",
        str(written(tmp_path / "o.csv", "\n".join([f"{HEADER},submitted_at", *rows]))),
    )
    now = Order.objects.get(intent_id="now")
    assert now.submitted_at is not None
    assert before <= now.submitted_at <= clock.now()
    assert Order.objects.get(intent_id="old").reason_code == "PAST_DEADLINE"


def test_send_orders__gives_up_waiting_for_a_worker_that_is_not_there(
    tmp_path: Path, demo: ExchangeAccount, redis_server: TestRedis, fast_clock: None
) -> None:
    said = run(
        "send_orders", str(written(tmp_path / "o.csv", f"{HEADER}\na,{RESTING}\n")), "--wait"
    )
    assert said.status == 1
    assert "0 of 1 order acknowledged or closed" in said.out
    assert "is a worker running?" in said.out


@pytest.mark.django_db(transaction=True)
def test_send_orders__follows_orders_through_a_worker(scenario: Scenario, tmp_path: Path) -> None:
    scenario.simulator.control.set_price("BTCUSDT", "60000")
    rows = [f"i-{number},{RESTING}" for number in range(20)]
    said = run(
        "send_orders", str(written(tmp_path / "o.csv", "\n".join([HEADER, *rows]))), "--wait"
    )
    assert said.status == 0, said.err
    assert "20 of 20 orders acknowledged or closed" in said.out
    assert scenario.simulator.control.truth().accepted_total() == 20


def test_follow__reports_progress_until_all_are_answered(
    demo: ExchangeAccount, fast_clock: None
) -> None:
    order = OrderFactory(account=demo, intent_id="a", status="PENDING_NEW")
    reported: list[int] = []

    def report(answered: int) -> None:
        reported.append(answered)
        if len(reported) == 3:
            Order.objects.filter(pk=order.pk).update(status="NEW")

    states = watch.follow([("demo", "a")], report)
    assert states["demo", "a"].status == "NEW"
    assert reported == [0, 0, 0, 1]


# -- cancel_order --------------------------------------------------------------------------------


def test_cancel_order__works_with_the_broker_down(
    demo: ExchangeAccount, exchange: FakeExchange, redis_server: TestRedis
) -> None:
    order = submit("a")
    redis_server.stop()
    said = run("cancel_order", "a", "--account", "demo", "--reason", "test")
    assert (said.status, said.out) == (0, "demo a: CANCELED, confirmed by the exchange\n")
    order.refresh_from_db()
    assert order.cancel_requested_by.startswith("shell:")


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        ({"status": "FILLED"}, "FILLED, closed before anyone asked to cancel it"),
        ({"status": "CREATED"}, "CANCELED, canceled before it was sent"),
        ({"status": "PENDING_NEW"}, "PENDING_NEW, cancel requested"),
    ],
)
def test_cancel_order__says_what_came_of_it(
    demo: ExchangeAccount, state: dict[str, str], answer: str
) -> None:
    OrderFactory(account=demo, intent_id="a", **state)
    assert answer in run("cancel_order", "a", "--account", "demo", "--reason", "test").out


def test_cancel_order__an_unconfirmed_cancel_is_reported_as_such(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit("a")
    exchange.lose_answer("cancel", executed=False)
    said = run("cancel_order", "a", "--account", "demo", "--reason", "test")
    assert (said.status, said.out) == (
        0,
        "demo a: NEW, the exchange has not confirmed the cancel. The sweep keeps asking.\n",
    )


@pytest.mark.parametrize(("intent_id", "account"), [("unknown", "demo"), ("a", "nobody")])
def test_cancel_order__an_unknown_intent_or_account_is_one_line(
    demo: ExchangeAccount, intent_id: str, account: str
) -> None:
    said = run("cancel_order", intent_id, "--account", account, "--reason", "test")
    assert said.status == 1
    assert said.err.count("\n") == 1


# -- halt_trading, resume_trading ----------------------------------------------------------------


def test_halt_trading__stops_all_accounts_with_the_broker_down(
    demo: ExchangeAccount, exchange: FakeExchange, redis_server: TestRedis
) -> None:
    redis_server.stop()
    said = run("halt_trading", "--reason", "fire drill")
    halt = TradingHalt.objects.get()
    assert (said.out, halt.is_halted, halt.reason) == ("Halted: all trading.\n", True, "fire drill")
    assert halt.changed_by.startswith("shell:")
    assert (submit("a").status, submit("b").reason_code) == ("DENIED", "HALTED")


def test_halt_trading__stops_one_account(demo: ExchangeAccount, exchange: FakeExchange) -> None:
    other = ExchangeAccountFactory(name="other", last_synced_at=None, balances_synced_at=None)
    assert run("halt_trading", "--account", "demo", "--reason", "test").out == "Halted: demo.\n"
    assert submit("a").reason_code == "HALTED"
    assert submit("a", account=other.name).status == "NEW"


@pytest.mark.parametrize(
    ("options", "halted", "free", "said"),
    [
        (("--symbol", "btc/usdt"), {}, {"symbol": "ETHUSDT", "price": "3000"}, "BTCUSDT"),
        (("--strategy", "grid"), {"strategy": "grid"}, {"strategy": "trend"}, "strategy grid"),
        (
            ("--strategy", "grid", "--symbol", "BTCUSDT", "--account", "demo"),
            {"strategy": "grid"},
            {"strategy": "grid", "account": "other"},
            "strategy grid, BTCUSDT, demo",
        ),
    ],
)
def test_halt_trading__stops_a_symbol_or_a_strategy_and_says_who_and_why(
    demo: ExchangeAccount,
    exchange: FakeExchange,
    options: tuple[str, ...],
    halted: dict[str, str],
    free: dict[str, str],
    said: str,
) -> None:
    ExchangeAccountFactory(name="other", last_synced_at=None, balances_synced_at=None)
    assert submit("before", **halted).status == "NEW"
    done = run("halt_trading", *options, "--reason", "odd prices", "--cancel-open")
    assert done.out == f"Halted: {said}.\n1 canceled or closed, 0 still open.\n"
    refused = submit("a", **halted)
    assert (refused.status, refused.reason_code) == ("DENIED", "HALTED")
    assert "is halted by shell:" in refused.reason
    assert "UTC: odd prices" in refused.reason
    assert submit("b", **free).status in ("NEW", "FILLED")
    assert run("resume_trading", *options, "--reason", "over").out == f"Resumed: {said}.\n"
    assert submit("c", **halted).status == "NEW"
    again = run("resume_trading", *options, "--reason", "over")
    assert again.status == 1
    assert f"{said} has no halt of its own." in again.err


def test_halt_trading__leaves_the_orders_outside_its_scope(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    for number in range(6):
        submit(f"grid-{number}", strategy="grid")
    submit("trend", strategy="trend")
    run("halt_trading", "--strategy", "grid", "--reason", "test", "--cancel-open")
    statuses = dict(Order.objects.values_list("intent_id", "status"))
    assert statuses.pop("trend") == "NEW"
    assert set(statuses.values()) == {"CANCELED"}


def test_halt_trading__only_reduces_an_account(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    assert (
        "--only-reduce needs --account, and no --symbol or --strategy."
        in run("halt_trading", "--only-reduce", "--reason", "x").err
    )
    said = run("halt_trading", "--account", "demo", "--only-reduce", "--reason", "test")
    assert (said.status, said.out) == (0, "Reduce only: demo.\n")
    assert submit("a").reason_code == "REDUCING"
    assert submit("b", side="SELL", price="70000").status == "NEW"
    run("halt_trading", "--account", "demo", "--reason", "test")
    assert (
        "is still halted. Resume it first."
        in run("halt_trading", "--account", "demo", "--only-reduce", "--reason", "x").err
    )
    assert submit("c", side="SELL", price="70000").reason_code == "HALTED"


def test_halt_trading__cancels_what_is_not_closed(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    for number in range(3):
        submit(f"open-{number}")
    OrderFactory(account=demo, intent_id="unsent")
    exchange.lose_answer("cancel", executed=False)
    said = run("halt_trading", "--reason", "test", "--cancel-open")
    assert (said.status, said.out) == (
        0,
        "Halted: all trading.\n4 canceled or closed, 0 still open.\n",
    )
    assert set(Order.objects.values_list("status", flat=True)) == {"CANCELED"}


@pytest.mark.long
def test_halt_trading__cancels_what_only_the_exchange_knows(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    submit("a")
    with as_a_restore():
        Order.objects.get().events.all().delete()
        Order.objects.get().exchange_orders.all().delete()
        Order.objects.all().delete()
    said = run("halt_trading", "--account", "demo", "--reason", "test", "--cancel-open")
    assert (said.status, said.out) == (0, "Halted: demo.\n1 canceled or closed, 0 still open.\n")


@pytest.mark.long
def test_halt_trading__repeats_until_the_exchange_shows_nothing_open(
    account: ExchangeAccount, simulator: Simulator, fast_timing: None, settings: Any
) -> None:
    """Lose the first cancels, execute the next late without an answer: only the list proves it."""
    settings.EXCHANGE_REQUEST_TIMEOUT_MS = 1000
    # An earlier test may have left one with another timeout.
    registry._of_thread.__dict__.clear()
    simulator.control.set_price("BTCUSDT", "60000")
    for number in range(3):
        assert submit(f"open-{number}").status == "NEW"
    cancels = {"method": "DELETE", "path": "/api/v3/order"}
    simulator.control.faults.add("never_answer", match=cancels, times=2)
    simulator.control.faults.add("execute_late_after_disconnect", match=cancels, times=2, seconds=2)
    said = run("halt_trading", "--reason", "test", "--cancel-open")
    assert (said.status, said.out) == (
        0,
        "Halted: all trading.\n3 canceled or closed, 0 still open.\n",
    )
    truth = simulator.control.truth()
    assert {row["status"] for row in truth.orders()} == {"CANCELED"}
    assert truth.requests["DELETE /api/v3/order"] > 3
    assert truth.requests["GET /api/v3/openOrders"] > 1


@pytest.mark.long
def test_halt_trading__names_what_is_left_when_time_is_up(
    demo: ExchangeAccount, exchange: FakeExchange, fast_clock: None
) -> None:
    submit("a")
    exchange.lose_answer("cancel", executed=False, times=1000)
    said = run("halt_trading", "--reason", "test", "--cancel-open")
    assert said.status == 1
    assert "0 canceled or closed, 1 still open." in said.out
    assert "demo a: NEW, the exchange has not confirmed the cancel" in said.err


def test_halt_trading__an_exchange_that_cannot_be_asked_is_no_proof(
    demo: ExchangeAccount, exchange: FakeExchange, fast_clock: None
) -> None:
    exchange.refuse_connection("fetch_open_orders", times=1000)
    said = run("halt_trading", "--reason", "test", "--cancel-open")
    assert said.status == 1
    assert "demo: not known what is open at the exchange: " in said.err
    assert not Scope().not_closed().exists()


@pytest.mark.parametrize("command", ["halt_trading", "resume_trading"])
@pytest.mark.parametrize(
    "arguments", [("--reason", "  "), ("--reason", "x", "--account", "nobody")]
)
def test_halt_trading__requires_a_reason_and_a_known_account(
    demo: ExchangeAccount, command: str, arguments: tuple[str, ...]
) -> None:
    said = run(command, *arguments)
    assert said.status == 1
    assert said.err.count("\n") == 1
    assert not TradingHalt.objects.get().is_halted


def test_resume_trading__lets_orders_go_again(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    run("halt_trading", "--reason", "test")
    assert submit("a").reason_code == "HALTED"
    assert run("resume_trading", "--reason", "over").out == "Resumed: all trading.\n"
    assert submit("b").status == "NEW"


def test_resume_trading__says_what_is_still_halted(demo: ExchangeAccount) -> None:
    run("halt_trading", "--reason", "everything")
    run("halt_trading", "--account", "demo", "--reason", "by itself")
    assert (
        "demo is still halted on its own: by itself" in run("resume_trading", "--reason", "x").out
    )
    run("halt_trading", "--reason", "everything")
    assert (
        "All trading is still halted: everything"
        in run("resume_trading", "--account", "demo", "--reason", "x").out
    )


# -- reconcile -----------------------------------------------------------------------------------


def test_reconcile__repairs_and_names_open_breaks(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    order = submit("a")
    exchange.fill(order.exchange_orders.get().client_order_id)
    ReconciliationBreakFactory(
        account=demo, order=order, kind=BreakKind.FILL_GAP, subject="bo-1", details={"n": 1}
    )
    ReconciliationBreakFactory(account=demo, kind=BreakKind.OVERFILL, resolved_at=clock.now())
    said = run("reconcile")
    order.refresh_from_db()
    assert (said.status, order.status) == (0, "FILLED")
    assert "demo: seen 0, changed 1, " in said.out
    assert "1 open break:" in said.out
    assert 'FILL_GAP bo-1 of intent a {"n": 1}' in said.out
    assert "OVERFILL" not in said.out


def test_reconcile__json_is_one_object(demo: ExchangeAccount, exchange: FakeExchange) -> None:
    ReconciliationBreakFactory(account=demo, kind=BreakKind.OVERFILL, subject="bo-1")
    (account,) = json.loads(run("reconcile", "--account", "demo", "--json").out)["accounts"]
    assert account["account"] == "demo"
    assert account["counts"]["seen"] == 0
    assert [row["kind"] for row in account["breaks"]] == ["OVERFILL"]


def test_reconcile__an_account_that_cannot_be_asked_keeps_no_other_from_it(
    demo: ExchangeAccount, exchange: FakeExchange
) -> None:
    ExchangeAccountFactory(name="second")
    ExchangeAccountFactory(name="disabled", is_enabled=False)
    exchange.refuse_connection("fetch_open_orders")
    said = run("reconcile")
    assert said.status == 1
    assert "demo: NotSent: no connection to the exchange" in said.out
    assert "second: seen 0" in said.out
    assert "disabled" not in said.out
