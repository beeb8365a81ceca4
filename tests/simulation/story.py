"""A seed's story: the list of all that comes in and all that goes wrong, with its times.

The story is made before the run, so that it can be printed and shortened. Everything that it
doesn't say (the order in which tasks run, the length of a flight) comes from the seed as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from tests.simulation.world import ACCOUNTS, WORKERS

STORY_SECONDS = 30.0
SYMBOL_PRICES = {"BTCUSDT": 60_000.0, "ETHUSDT": 2_400.0}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens, at so many seconds after the beginning."""

    at: float
    kind: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def in_words(self) -> str:
        words = ", ".join(f"{name} {value}" for name, value in self.about.items() if value != "")
        return f"{self.at:7.2f} s  {self.kind.replace('_', ' ')}: {words}"


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of story. `steps` has the average number of each step in one story."""

    name: str
    intents: tuple[int, int] = (5, 12)
    steps: Mapping[str, float] = field(default_factory=dict)
    breaks_assumptions: bool = False
    is_poor: bool = False
    deadlines: tuple[int, ...] = ()  # of the intents, in seconds


_COMMON = {"cancel": 3.0, "fill": 2.0}
_BROKEN_CALLS = {"call_fault": 4.0, "crash": 2.0, "message_fault": 2.0, "lag": 0.7}
_STREAM = {"stream_fault": 2.0, "cut_streams": 0.5}

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("path", steps={**_COMMON, **_BROKEN_CALLS, **_STREAM}),
        Profile(
            "crashes",
            steps={
                **_COMMON,
                "crash": 7.0,
                "crash_all": 0.5,
                "call_fault": 2.0,
                "message_fault": 2.0,
            },
        ),
        Profile(
            "outages",
            steps={
                **_COMMON,
                **_STREAM,
                "session_loss": 4.0,
                "database_away": 0.8,
                "read_only": 0.4,
                "redis_away": 0.6,
                "redis_flush": 0.3,
                "broker_away": 0.5,
                "broker_flush": 0.3,
                "exchange_away": 0.6,
                "call_fault": 2.0,
                "crash": 1.0,
            },
        ),
        Profile(
            "hands",
            steps={
                **_COMMON,
                **_STREAM,
                "hand_order": 2.0,
                "hand_cancel": 1.5,
                "hand_amend": 1.5,
                "hand_reuse": 1.0,
                "expire": 1.0,
                "deposit": 1.0,
                "symbol_pause": 0.5,
                "halt": 0.7,
                "call_fault": 2.0,
                "crash": 1.0,
                "lag": 0.7,
            },
        ),
        Profile(
            "halts",
            steps={**_COMMON, "halt": 3.0, "call_fault": 2.0, "crash": 2.0, "session_loss": 1.0},
        ),
        Profile(
            "limits",
            intents=(8, 16),
            steps={**_COMMON, **_BROKEN_CALLS, **_STREAM},
        ),
        Profile(
            "clocks",
            steps={**_COMMON, **_BROKEN_CALLS, "clock_step": 2.0, "slow": 0.7, "pause": 1.0},
        ),
        Profile(
            "stops",
            steps={**_COMMON, "stop": 4.0, "call_fault": 1.0, "message_fault": 1.0},
            deadlines=(120, 120, 8),
        ),
        Profile(
            "back",
            steps={
                **_COMMON,
                **_STREAM,
                "call_fault": 2.0,
                "crash": 1.0,
                "failover": 1.2,
                "redis_flush": 0.3,
            },
        ),
        Profile(
            "money",
            intents=(8, 16),
            steps={"cancel": 2.0, "call_fault": 3.0, "crash": 1.0, "stream_fault": 2.0, "lag": 0.7},
            is_poor=True,
        ),
        Profile(
            "lags",
            steps={**_COMMON, "long_lag": 1.5, "lost_and_mute": 2.0, "call_fault": 1.0},
            breaks_assumptions=True,
        ),
    )
}


def profile_of(seed: int) -> Profile:
    """Return the profile of a seed whose story names none."""
    return list(PROFILES.values())[seed % len(PROFILES)]


def make_story(seed: int, profile: Profile) -> list[Step]:
    """Return the story of a seed, in the order of its times."""
    chance = Random(f"story-{profile.name}-{seed}")
    steps: list[Step] = []
    intents: list[tuple[str, str, float]] = []
    for number in range(chance.randint(*profile.intents)):
        at = chance.uniform(1.0, STORY_SECONDS * 0.8)
        account = chance.choice(ACCOUNTS)
        intent = f"i-{number}"
        intents.append((account, intent, at))
        about = _intent(chance, account, intent)
        if profile.deadlines:
            about["place_within_seconds"] = chance.choice(profile.deadlines)
        steps.append(Step(at, "submit", about))
        if chance.random() < 0.25:
            again = at + chance.choice((0.001, 0.2, 3.0, 25.0))
            steps.append(Step(again, "submit", steps[-1].about))
    if profile.name == "limits":
        steps.append(Step(0.0, "limits", {"open_orders": chance.randint(1, 4)}))
    for kind, often in profile.steps.items():
        steps += [_MAKERS[kind](chance, intents) for _ in range(_times(chance, often))]
    return sorted(steps, key=lambda step: (step.at, step.kind))


def _times(chance: Random, often: float) -> int:
    """Return a number of times whose average is about `often`."""
    times = 0
    while often > 0:
        times += chance.random() < (often if often < 1 else 0.7)
        often -= 0.7 if often >= 1 else often
    return times


def _intent(chance: Random, account: str, intent: str) -> dict[str, Any]:
    symbol = chance.choice(list(SYMBOL_PRICES))
    price, side = SYMBOL_PRICES[symbol], chance.choice(("BUY", "BUY", "SELL"))
    about: dict[str, Any] = {
        "account": account,
        "intent_id": intent,
        "symbol": symbol,
        "side": side,
        "way": chance.choice(("message", "message", "record")),
    }
    kind = chance.random()
    size = chance.choice((0.002, 0.01, 0.02)) * (60_000.0 / price)
    if kind < 0.3:
        about |= {"order_type": "MARKET", "quantity": f"{size:.4f}"}
    else:
        away = chance.choice((-0.02, 0.001, 0.03)) if kind < 0.45 else 0.1
        factor = 1 - away if side == "BUY" else 1 + away
        about |= {
            "order_type": "LIMIT",
            "quantity": f"{size:.4f}",
            "price": f"{price * factor:.2f}",
        }
    if chance.random() < 0.2:
        about["place_within_seconds"] = chance.choice((2, 8, 120))
    return about


Maker = Callable[[Random, list[tuple[str, str, float]]], Step]


def _when(chance: Random) -> float:
    return chance.uniform(0.5, STORY_SECONDS)


def _near(chance: Random, intents: list[tuple[str, str, float]]) -> tuple[str, str, float]:
    """Return an intent, and a time that is often close to its own."""
    account, intent, at = chance.choice(intents)
    pause = chance.choice((-0.5, 0.0, 0.02, 0.1, 0.5, 2.0, 8.0, 20.0)) * chance.random()
    return account, intent, min(max(at + pause, 0.1), STORY_SECONDS)


def _cancel(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    account, intent, at = _near(chance, intents)
    return Step(at, "cancel", {"account": account, "intent_id": intent})


def _about_order(kind: str) -> Maker:
    def make(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
        account, intent, at = _near(chance, intents)
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


def _call_fault(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    account, _, at = _near(chance, intents)
    call = chance.choice(_CALLS)
    return Step(
        at - 0.05, "call_fault", {"call": call, "account": account, **chance.choice(_CALL_FAULTS)}
    )


def _crash(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    _, _, at = _near(chance, intents)
    process = chance.choice((*WORKERS, *WORKERS, "listener", "beat-1"))
    return Step(at, "crash", {"process": process, "after": chance.randint(1, 60)})


def _crash_all(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    return Step(_near(chance, intents)[2], "crash_all", {})


def _message_fault(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    task = chance.choice(
        ("orders.submit_order", "orders.place_order", "orders.cancel_order", "orders.sweep_account")
    )
    what = chance.choice(("lose", "double", "delay"))
    seconds = chance.choice((0.1, 3.0, 30.0)) if what != "lose" else 0.0
    _, _, at = _near(chance, intents)
    return Step(at - 0.1, "message_fault", {"task": task, "what": what, "seconds": seconds})


def _lag(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
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


def _long_lag(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    """Let every query lag for longer than `EXCHANGE_READ_LAG_MS` allows."""
    kinds = "order openOrders allOrders myTrades account"
    at = chance.uniform(0.0, STORY_SECONDS / 2)
    return Step(at, "lag", {"kinds": kinds, "seconds": chance.choice((30.0, 50.0)), "for": 60.0})


def _lost_and_mute(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    """Lose an answer and the events of the stream, so that only queries can show the order."""
    account, _, at = chance.choice(intents)
    return Step(at - 0.05, "lost_and_mute", {"account": account})


def _stream_fault(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    account, _, at = _near(chance, intents)
    what = chance.choice(("drop", "double", "delay", "delay", "reset", "mute"))
    seconds = chance.choice((0.05, 1.0, 10.0))
    return Step(at, "stream_fault", {"account": account, "what": what, "seconds": seconds})


def _for_a_while(kind: str, *seconds: float) -> Maker:
    def make(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
        return Step(_near(chance, intents)[2], kind, {"for": chance.choice(seconds)})

    return make


def _session_loss(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    process = chance.choice((*WORKERS, *WORKERS, "listener"))
    when = chance.choice(("before", "after"))
    return Step(_near(chance, intents)[2], "session_loss", {"process": process, "when": when})


def _halt(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    account, _, at = _near(chance, intents)
    name = account if chance.random() < 0.7 else ""
    cancels = chance.random() < 0.3
    return Step(
        at, "halt", {"account": name, "for": chance.choice((0.5, 5.0, 20.0)), "cancels": cancels}
    )


def _symbol_pause(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    symbol = chance.choice(list(SYMBOL_PRICES))
    return Step(
        _when(chance), "symbol_pause", {"symbol": symbol, "for": chance.choice((2.0, 10.0))}
    )


def _on_process(kind: str, name: str, *values: float) -> Maker:
    def make(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
        process = chance.choice((*WORKERS, "listener"))
        return Step(
            _near(chance, intents)[2], kind, {"process": process, name: chance.choice(values)}
        )

    return make


def _stop(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    """Let a worker stand still at one of its next boundaries, say between a claim and its send."""
    process = chance.choice(("worker-1", "worker-2"))
    seconds = chance.choice((3.0, 9.0, 25.0, 40.0))
    at = chance.choice(intents)[2] - 0.01
    return Step(at, "stop", {"process": process, "after": chance.randint(1, 40), "for": seconds})


def _failover(chance: Random, intents: list[tuple[str, str, float]]) -> Step:
    loses = chance.choice((0.05, 0.3, 1.0, 5.0, 15.0))
    at = min(_near(chance, intents)[2], STORY_SECONDS - loses - 0.5)
    return Step(at, "failover", {"loses": loses})


_MAKERS: dict[str, Maker] = {
    "cancel": _cancel,
    "fill": _about_order("fill"),
    "hand_cancel": _about_order("hand_cancel"),
    "hand_amend": _about_order("hand_amend"),
    "expire": _about_order("expire"),
    "hand_order": _about_order("hand_order"),
    "hand_reuse": _about_order("hand_reuse"),
    "long_lag": _long_lag,
    "lost_and_mute": _lost_and_mute,
    "deposit": _about_order("deposit"),
    "call_fault": _call_fault,
    "crash": _crash,
    "crash_all": _crash_all,
    "message_fault": _message_fault,
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
