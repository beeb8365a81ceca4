"""Make the steps of a story: one function for each kind of thing that comes in or goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

from tests.simulation.words import in_words
from tests.simulation.world import NEW_ACCOUNT, WORKERS

STORY_SECONDS = 30.0
SYMBOL_PRICES = {"BTCUSDT": 60_000.0, "ETHUSDT": 2_400.0}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens, at so many seconds after the beginning."""

    at: float
    kind: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def in_words(self) -> str:
        return in_words(self.at, self.kind, self.about)


class Intent(NamedTuple):
    """An intent of the story, for the steps that are about it."""

    account: str
    name: str
    at: float
    is_market: bool


def make_intent(
    chance: Random, account: str, intent: str, markets: float, symbol: str = ""
) -> dict[str, Any]:
    """Return the arguments of a message with an intent. `markets` is the share of market orders."""
    symbol = symbol or chance.choice(list(SYMBOL_PRICES))
    price, side = SYMBOL_PRICES[symbol], chance.choice(("BUY", "BUY", "SELL"))
    about: dict[str, Any] = {
        "account": account,
        "intent_id": intent,
        "symbol": symbol,
        "side": side,
        "way": "message",
    }
    size = chance.choice((0.002, 0.01, 0.02)) * (60_000.0 / price)
    if chance.random() < markets:
        about |= {"order_type": "MARKET", "quantity": f"{size:.4f}"}
    else:
        away = chance.choice((-0.02, 0.001, 0.03)) if chance.random() < 0.2 else 0.1
        factor = 1 - away if side == "BUY" else 1 + away
        about |= {
            "order_type": "LIMIT",
            "quantity": f"{size:.4f}",
            "price": f"{price * factor:.2f}",
        }
    if chance.random() < 0.2:
        about["place_within_seconds"] = chance.choice((2, 8, 120))
    if chance.random() < 0.3:
        about["is_dated"] = True  # the deadline begins when the bot decides, not on receipt
    return about


def make_odd(chance: Random, about: dict[str, Any]) -> None:
    """Give an intent more digits than the exchange takes."""
    about["quantity"] = f"{float(about['quantity']) * chance.uniform(1.0, 1.2):.7f}"
    if "price" in about:
        about["price"] = f"{float(about['price']) * chance.uniform(0.9999, 1.0001):.5f}"


Intents = Sequence[Intent]
Maker = Callable[[Random, Intents], Step]


def _when(chance: Random) -> float:
    return chance.uniform(0.5, STORY_SECONDS)


def near(chance: Random, intents: Intents) -> tuple[str, str, float]:
    """Return an intent, and a time that is often close to its own."""
    account, intent, at, _ = chance.choice(intents)
    pause = chance.choice((-0.5, 0.0, 0.02, 0.1, 0.5, 2.0, 8.0, 20.0)) * chance.random()
    return account, intent, min(max(at + pause, 0.1), STORY_SECONDS)


def _cancel(chance: Random, intents: Intents) -> Step:
    account, intent, at = near(chance, intents)
    return Step(at, "cancel", {"account": account, "intent_id": intent})


def _early_cancel(chance: Random, intents: Intents) -> Step:
    """Cancel an intent before it comes."""
    account, intent, at, _ = chance.choice(intents)
    at = max(at - chance.choice((0.01, 0.4)), 0.1)
    return Step(at, "cancel", {"account": account, "intent_id": intent})


def _cancel_fault(chance: Random, intents: Intents) -> Step:
    """Lose the request of a cancel, or its answer."""
    account, _, at, _ = chance.choice(intents)
    what = chance.choice(("unsent", "lost before"))
    return Step(at, "call_fault", {"call": "cancel", "account": account, "what": what})


def _about_order(kind: str) -> Maker:
    def make(chance: Random, intents: Intents) -> Step:
        account, intent, at = near(chance, intents)
        share = chance.choice((0.3, 0.5, 1.0))
        return Step(at, kind, {"account": account, "intent_id": intent, "share": share})

    return make


_CALL_FAULTS: tuple[dict[str, Any], ...] = (
    {"what": "lost after"},
    {"what": "lost after"},
    {"what": "lost before"},
    {"what": "unsent"},
    {"what": "late request", "seconds": 3.0},
    {"what": "late request", "seconds": 7.0},
    {"what": "late engine", "seconds": 4.0},
    {"what": "early answer", "status": 504, "code": -1007, "text": "Timeout", "seconds": 4.5},
    {"what": "late answer", "seconds": 6.0},
    {"what": "late answer", "seconds": 20.0},
    {"what": "answer", "status": 503},
    {"what": "wrong answer", "status": 503},
    {"what": "wrong answer", "status": 504, "code": -1007, "text": "Timeout waiting for response"},
    {"what": "wrong answer", "status": 200},
    {"what": "answer", "status": 429, "code": -1003, "text": "Too many requests", "seconds": 3.0},
    {"what": "answer", "status": 418, "code": -1003, "text": "Banned", "seconds": 5.0},
    {"what": "answer", "status": 400, "code": -1021, "text": "Timestamp for this request"},
)
_CALLS = (
    ("place",) * 6
    + ("cancel",) * 3
    + ("fetch_order",) * 2
    + (
        "fetch_open_orders",
        "fetch_all_orders",
        "fetch_trades",
        "fetch_account",
        "fetch_time",
        "",
    )
)


def _call_fault(chance: Random, intents: Intents) -> Step:
    account, _, at = near(chance, intents)
    call = chance.choice(_CALLS)
    return Step(
        at - 0.05, "call_fault", {"call": call, "account": account, **chance.choice(_CALL_FAULTS)}
    )


def _crash(chance: Random, intents: Intents) -> Step:
    _, _, at = near(chance, intents)
    process = chance.choice((*WORKERS, *WORKERS, "listener", "beat-1"))
    return Step(at, "crash", {"process": process, "after": chance.randint(1, 60)})


def _crash_all(chance: Random, intents: Intents) -> Step:
    return Step(near(chance, intents)[2], "crash_all", {})


def _message_fault(chance: Random, intents: Intents) -> Step:
    task = chance.choice(
        ("orders.submit_order", "orders.place_order", "orders.cancel_order", "orders.sweep_account")
    )
    what = chance.choice(("lose", "double", "delay"))
    seconds = chance.choice((0.1, 3.0, 30.0)) if what != "lose" else 0.0
    _, _, at = near(chance, intents)
    return Step(at - 0.1, "message_fault", {"task": task, "what": what, "seconds": seconds})


def _placed_twice(chance: Random, intents: Intents) -> Step:
    """Deliver the message that places a stored order twice."""
    about = {"task": "orders.place_order", "what": "double", "seconds": chance.choice((0.0, 0.01))}
    return Step(chance.choice(intents).at - 0.05, "message_fault", about)


def _lag(chance: Random, intents: Intents) -> Step:
    kinds = ("order", "openOrders", "allOrders", "myTrades", "account")
    chosen = kinds if chance.random() < 0.5 else chance.sample(kinds, 2)
    return Step(
        _when(chance),
        "lag",
        {
            "kinds": " ".join(chosen),
            "seconds": chance.choice((1.0, 3.0, 4.9)),
            "for": chance.uniform(5, 30),
        },
    )


def _hand_reuse(chance: Random, intents: Intents) -> Step:
    """Use the client order id of an intent again, some time after it was sent."""
    account, intent, at, _ = chance.choice(intents)
    about = {"account": account, "intent_id": intent}
    return Step(at + chance.choice((1.0, 4.0, 10.0)), "hand_reuse", about)


def _long_lag(chance: Random, intents: Intents) -> Step:
    """Let every query lag for longer than `EXCHANGE_READ_LAG_MS` allows."""
    kinds = "order openOrders allOrders myTrades account"
    at = chance.uniform(0.0, STORY_SECONDS / 2)
    return Step(at, "lag", {"kinds": kinds, "seconds": chance.choice((30.0, 50.0)), "for": 60.0})


def _lost_and_mute(chance: Random, intents: Intents) -> Step:
    """Lose an answer and the events of the stream, so that only queries can show the order."""
    account, intent, at, _ = chance.choice(intents)
    about = {"account": account, "intent_id": intent, "for": 60.0}
    return Step(at - 0.05, "lost_and_mute", about)


def _lost_and_amended(chance: Random, intents: Intents) -> Step:
    """Lose an answer, and amend the order by hand, so that it has another name by now."""
    account, intent, at, _ = chance.choice([row for row in intents if not row.is_market] or intents)
    return Step(at - 0.05, "lost_and_amended", {"account": account, "intent_id": intent})


def review(chance: Random, intent: Intent) -> Step:
    """Let a second person look for a held order, and decide about it some time later."""
    about = {
        "account": intent.account,
        "intent_id": intent.name,
        "verdict": chance.choice(("release", "release", "reject", "nothing")),
        "thinks": chance.choice((0.0, 0.5, 3.0, 10.0)),
    }
    return Step(intent.at, "review", about)


def _reset(chance: Random, intents: Intents) -> Step:
    """Let the exchange lose all its orders, and a person notice it some time later."""
    at = near(chance, intents)[2]
    return Step(max(at, 4.0), "reset", {"after": chance.choice((0.5, 4.0, 15.0, 60.0))})


def _new_account(chance: Random, intents: Intents) -> Step:
    """Add an account, and let a bot place orders on it soon."""
    orders = []
    for number in range(chance.randint(1, 4)):
        about = make_intent(chance, NEW_ACCOUNT, f"new-{number}", 0.5)
        orders.append((chance.choice((0.0, 0.1, 2.0, 6.0)), about))
    return Step(chance.uniform(1.0, 15.0), "new_account", {"name": NEW_ACCOUNT, "orders": orders})


def _late_reset(chance: Random, intents: Intents) -> Step:
    """Let the exchange lose all its orders amid the story, and a person notice it much later."""
    return Step(chance.uniform(8.0, 16.0), "reset", {"after": chance.choice((15.0, 60.0))})


def _sender_stop(*seconds: float) -> Maker:
    """Return the maker of a process that stands still after a claim, before its request leaves."""

    def make(chance: Random, intents: Intents) -> Step:
        account, intent, at, _ = chance.choice(intents)
        about = {"account": account, "intent_id": intent, "for": chance.choice(seconds)}
        return Step(at - 0.05, "sender_stop", about)

    return make


def _of_send(what: str, *seconds: float) -> Maker:
    """Return the maker of a fault of an intent's first request."""

    def make(chance: Random, intents: Intents) -> Step:
        account, _, at, _ = chance.choice(intents)
        about: dict[str, Any] = {"call": "place", "account": account, "what": what}
        if what == "early answer":
            about |= {"status": 504, "code": -1007, "text": "Timeout"}
        return Step(at - 0.05, "call_fault", {**about, "seconds": chance.choice(seconds)})

    return make


def _claim_stop(chance: Random, intents: Intents) -> Step:
    """Let a process stand still between the gate and the commit of its claim."""
    account, intent, at, _ = chance.choice(intents)
    about = {"account": account, "intent_id": intent, "for": chance.choice((0.05, 0.3, 1.0))}
    return Step(at - 0.05, "claim_stop", about)


def _halt_in_claim(chance: Random, intents: Intents) -> Step:
    """Halt an account while a claim of it is between the gate and its commit."""
    account, intent, at, _ = chance.choice(intents)
    about = {"account": account, "intent_id": intent, "stops": chance.choice((0.5, 1.5, 5.0))}
    return Step(at - 0.05, "halt_in_claim", about)


def _lost_claim(chance: Random, intents: Intents) -> Step:
    """Fail over right after an intent was sent, and repeat it."""
    account, intent, at, _ = chance.choice(intents)
    loses = chance.choice((0.3, 0.8, 2.0))
    about = {"account": account, "intent_id": intent, "seconds": 0.0, "loses": loses}
    return Step(at - 0.01, "lost_in_flight", about | {"again": chance.choice((0.05, 0.5))})


def _lost_in_flight(chance: Random, intents: Intents) -> Step:
    """Fail over while a request is on its way, and repeat its intent before it is executed."""
    account, intent, at, _ = chance.choice([row for row in intents if row.is_market] or intents)
    about = {
        "account": account,
        "intent_id": intent,
        "seconds": chance.choice((3.0, 4.5)),
        "loses": chance.choice((0.15, 0.4, 0.8)),
        "again": chance.choice((0.05, 0.3, 1.0)),
    }
    return Step(at - 0.01, "lost_in_flight", about)


def _stream_fault(chance: Random, intents: Intents) -> Step:
    account, _, at = near(chance, intents)
    what = chance.choice(("drop", "double", "delay", "delay", "reset", "mute"))
    seconds = chance.choice((0.05, 1.0, 10.0))
    return Step(at, "stream_fault", {"account": account, "what": what, "seconds": seconds})


def _for_a_while(kind: str, *seconds: float) -> Maker:
    def make(chance: Random, intents: Intents) -> Step:
        return Step(near(chance, intents)[2], kind, {"for": chance.choice(seconds)})

    return make


def _session_loss(chance: Random, intents: Intents) -> Step:
    process = chance.choice((*WORKERS, *WORKERS, "listener"))
    when = chance.choice(("before", "after"))
    return Step(near(chance, intents)[2], "session_loss", {"process": process, "when": when})


def _halt(chance: Random, intents: Intents) -> Step:
    account, _, at = near(chance, intents)
    name = account if chance.random() < 0.7 else ""
    cancels = chance.random() < 0.3
    return Step(
        at, "halt", {"account": name, "for": chance.choice((0.5, 5.0, 20.0)), "cancels": cancels}
    )


def _symbol_pause(chance: Random, intents: Intents) -> Step:
    symbol = chance.choice(list(SYMBOL_PRICES))
    return Step(
        _when(chance), "symbol_pause", {"symbol": symbol, "for": chance.choice((2.0, 10.0))}
    )


def _on_process(kind: str, name: str, *values: float) -> Maker:
    def make(chance: Random, intents: Intents) -> Step:
        process = chance.choice((*WORKERS, "listener"))
        return Step(
            near(chance, intents)[2], kind, {"process": process, name: chance.choice(values)}
        )

    return make


def _stop(chance: Random, intents: Intents) -> Step:
    """Let a worker stand still at one of its next boundaries, say between a claim and its send."""
    process = chance.choice(("worker-1", "worker-2"))
    seconds = chance.choice((3.0, 9.0, 25.0, 40.0))
    at = chance.choice(intents).at - 0.01
    return Step(at, "stop", {"process": process, "after": chance.randint(1, 40), "for": seconds})


def _failover(chance: Random, intents: Intents) -> Step:
    loses = chance.choice((0.05, 0.3, 1.0, 5.0, 15.0))
    at = min(near(chance, intents)[2], STORY_SECONDS - loses - 0.5)
    return Step(at, "failover", {"loses": loses})


MAKERS: dict[str, Maker] = {
    "cancel": _cancel,
    "early_cancel": _early_cancel,
    "cancel_fault": _cancel_fault,
    "fill": _about_order("fill"),
    "hand_cancel": _about_order("hand_cancel"),
    "hand_amend": _about_order("hand_amend"),
    "expire": _about_order("expire"),
    "hand_order": _about_order("hand_order"),
    "hand_reuse": _hand_reuse,
    "long_lag": _long_lag,
    "lost_and_mute": _lost_and_mute,
    "lost_and_amended": _lost_and_amended,
    "lost_in_flight": _lost_in_flight,
    "lost_claim": _lost_claim,
    "new_account": _new_account,
    "reset": _reset,
    "late_reset": _late_reset,
    "clock_drift": _on_process("clock_drift", "rate", -100, -20, 20, 100),
    "sender_stop": _sender_stop(3.0, 9.0, 25.0, 40.0),
    "late_sender": _sender_stop(25.0, 40.0),
    "early_answer": _of_send("early answer", 2.0, 4.5),
    "late_word": _of_send("late answer", 3.0, 8.0),
    "claim_stop": _claim_stop,
    "halt_in_claim": _halt_in_claim,
    "deposit": _about_order("deposit"),
    "call_fault": _call_fault,
    "crash": _crash,
    "crash_all": _crash_all,
    "message_fault": _message_fault,
    "placed_twice": _placed_twice,
    "lag": _lag,
    "stream_fault": _stream_fault,
    "cut_streams": _for_a_while("cut_streams", 0.0),
    "session_loss": _session_loss,
    "database_away": _for_a_while("database_away", 0.3, 3.0, 12.0),
    "read_only": _for_a_while("read_only", 1.0, 8.0),
    "redis_away": _for_a_while("redis_away", 0.5, 5.0),
    "redis_flush": _for_a_while("redis_flush", 0.0),
    "broker_away": _for_a_while("broker_away", 1.0, 8.0),
    "broker_flush": _for_a_while("broker_flush", 0.0),
    "exchange_away": _for_a_while("exchange_away", 1.0, 10.0),
    "slow": _for_a_while("slow", 5.0, 20.0),
    "halt": _halt,
    "symbol_pause": _symbol_pause,
    "clock_step": _on_process("clock_step", "seconds", -3.0, -0.4, 0.4, 3.0),
    "pause": _on_process("pause", "for", 1.0, 7.0, 26.0),
    "failover": _failover,
    "stop": _stop,
}
