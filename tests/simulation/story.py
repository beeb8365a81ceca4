"""A seed's story: the list of all that comes in and all that goes wrong, with its times.

The story is made before the run, so that it can be printed and shortened. Everything that it
doesn't say (the order in which tasks run, the length of a flight) comes from the seed as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from random import Random

from tests.simulation.change_steps import CHANGES
from tests.simulation.mishap_steps import MISHAPS
from tests.simulation.steps import (
    MAKERS,
    STORY_SECONDS,
    SYMBOL_PRICES,
    Intent,
    Step,
    make_intent,
    make_odd,
    review,
)
from tests.simulation.world import ACCOUNTS

#: Kind of step -> the function that makes one.
ALL_MAKERS = MAKERS | CHANGES | MISHAPS


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of story. `steps` has the average number of each step in one story."""

    name: str
    intents: tuple[int, int] = (5, 12)
    steps: Mapping[str, float] = field(default_factory=dict)
    breaks_assumptions: bool = False
    is_poor: bool = False
    deadlines: tuple[int, ...] = ()  # of the intents, in seconds
    bursts: float = 0.0  # share of the intents that come at the same moment as the one before
    markets: float = 0.3  # share of the market orders
    ways: tuple[str, ...] = ("message", "message", "record")  # in which bots say an intent
    repeats: float = 0.25  # share of the intents that come twice
    pauses: tuple[float, ...] = (0.001, 0.2, 3.0, 25.0)  # between the two
    open_orders: tuple[int, int] | None = None  # least and most of the limit
    review_above: str | None = None  # value above which a second person must agree
    is_warm: bool = (
        False  # a first order of each account and symbol has fetched what the gate needs
    )
    notifies: bool = False  # always, else in a third of the seeds
    is_odd: bool = False  # amounts have more digits than the exchange takes
    sizes: Mapping[str, int] = field(default_factory=dict)  # constants that are smaller than usual


_COMMON = {"cancel": 3.0, "fill": 2.0}
_BROKEN_CALLS = {"call_fault": 4.0, "crash": 2.0, "message_fault": 2.0, "lag": 0.7}
_STREAM = {"stream_fault": 2.0, "cut_streams": 0.5}

PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("path", steps={**_COMMON, **_BROKEN_CALLS, **_STREAM, "lost_and_mute": 0.7}),
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
                "redis_back": 0.5,
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
                "lost_and_amended": 0.7,
                "new_account": 0.5,
            },
        ),
        Profile(
            "halts",
            bursts=0.4,
            steps={
                **_COMMON,
                "halt": 2.5,
                "halt_in_claim": 0.7,
                "call_fault": 2.0,
                "crash": 2.0,
                "session_loss": 1.0,
            },
        ),
        Profile(
            "limits",
            intents=(8, 16),
            open_orders=(1, 4),
            bursts=0.5,
            steps={**_COMMON, **_BROKEN_CALLS, **_STREAM, "new_limit": 2.0},
        ),
        Profile(
            "clocks",
            steps={
                **_COMMON,
                **_BROKEN_CALLS,
                "clock_step": 2.0,
                "clock_drift": 2.0,
                "slow": 0.7,
                "pause": 1.0,
            },
        ),
        Profile(
            "stops",
            steps={
                **_COMMON,
                "stop": 3.0,
                "sender_stop": 1.5,
                "claim_stop": 1.0,
                "call_fault": 1.0,
                "message_fault": 1.0,
            },
            deadlines=(120, 120, 8),
        ),
        Profile(
            "back",
            steps={
                **_COMMON,
                **_STREAM,
                "call_fault": 2.0,
                "crash": 1.0,
                "failover": 0.9,
                "lost_in_flight": 0.7,
                "redis_flush": 0.3,
                "redis_back": 0.5,
            },
        ),
        Profile(
            "resets",
            intents=(8, 14),
            steps={**_COMMON, **_STREAM, "reset": 1.0, "call_fault": 2.0, "crash": 1.0, "lag": 0.5},
        ),
        Profile(
            "reviews",
            review_above="300",
            deadlines=(8, 30, 120),
            steps={
                **_COMMON,
                "cancel": 4.0,
                "call_fault": 2.0,
                "crash": 3.0,
                "session_loss": 1.0,
                "message_fault": 2.0,
                "halt": 0.7,
            },
        ),
        Profile(
            "money",
            intents=(8, 16),
            bursts=0.4,
            steps={"cancel": 2.0, "call_fault": 3.0, "crash": 1.0, "stream_fault": 2.0, "lag": 0.7},
            is_poor=True,
        ),
        Profile(
            "lags",
            deadlines=(30, 120, 120),
            steps={**_COMMON, "long_lag": 1.5, "lost_and_mute": 2.0, "call_fault": 1.0},
            breaks_assumptions=True,
        ),
        Profile(
            "rules",
            deadlines=(8, 30, 120),
            is_odd=True,
            steps={
                **_COMMON,
                **_STREAM,
                "symbol_rules": 2.0,
                "symbol_gone": 0.4,
                "symbol_pause": 0.3,
                "call_fault": 3.0,
                "crash": 1.0,
                "lost_and_mute": 0.7,
                "message_fault": 1.0,
                "lag": 0.4,
            },
        ),
        Profile(
            "deploys",
            deadlines=(8, 30, 120),
            bursts=0.3,
            steps={
                **_COMMON,
                **_STREAM,
                "deploy": 1.3,
                "migration": 0.7,
                "settings": 2.0,
                "call_fault": 3.0,
                "crash": 1.0,
                "message_fault": 1.0,
                "session_loss": 0.7,
                "lag": 0.4,
            },
        ),
        Profile(
            "exchange time",
            deadlines=(8, 30, 120),
            steps={
                **_COMMON,
                **_BROKEN_CALLS,
                **_STREAM,
                "exchange_step": 2.0,
                "exchange_drift": 0.7,
                "clock_step": 0.5,
                "lost_and_mute": 0.7,
                "lost_and_amended": 0.4,
            },
        ),
    )
}


def profile_named(name: str) -> Profile:
    """Return the profile of this name, also a narrow one, which only its name leads to."""
    from tests.simulation.narrow import NARROW

    return {**PROFILES, **{profile.name: profile for profile in NARROW}}[name]


def profile_of(seed: int) -> Profile:
    """Return the profile of a seed whose story names none."""
    return list(PROFILES.values())[seed % len(PROFILES)]


def make_story(seed: int, profile: Profile) -> list[Step]:
    """Return the story of a seed, in the order of its times."""
    chance = Random(f"story-{profile.name}-{seed}")
    steps: list[Step] = []
    intents: list[Intent] = []
    at, begin = 0.0, 1.0
    if profile.is_warm:
        steps, begin = _first_orders(chance), 6.0
    for number in range(chance.randint(*profile.intents)):
        if number and chance.random() < profile.bursts:
            at += chance.choice((0.0, 0.001, 0.02))
        else:
            at = chance.uniform(begin, STORY_SECONDS * 0.8)
            account = chance.choice(ACCOUNTS)
        intent = f"i-{number}"
        about = make_intent(chance, account, intent, profile.markets)
        about["way"] = chance.choice(profile.ways)
        if profile.is_odd:
            make_odd(chance, about)
        intents.append(Intent(account, intent, at, about["order_type"] == "MARKET"))
        if profile.deadlines:
            about["place_within_seconds"] = chance.choice(profile.deadlines)
        steps.append(Step(at, "submit", about))
        if chance.random() < profile.repeats:
            again = at + chance.choice(profile.pauses)
            steps.append(Step(again, "submit", steps[-1].about))
    if profile.open_orders is not None:
        steps.append(Step(0.0, "limits", {"open_orders": chance.randint(*profile.open_orders)}))
    if profile.review_above is not None:
        steps.append(Step(0.0, "review_rule", {"above": profile.review_above}))
        steps += [review(chance, intent) for intent in intents]
    for kind, often in profile.steps.items():
        steps += [ALL_MAKERS[kind](chance, intents) for _ in range(_times(chance, often))]
    return sorted(steps, key=lambda step: (step.at, step.kind))


def _first_orders(chance: Random) -> list[Step]:
    """Return a market order of each account on each symbol."""
    steps = []
    for account, symbol in product(ACCOUNTS, SYMBOL_PRICES):
        about = make_intent(chance, account, f"first-{symbol}", 1.0, symbol)
        steps.append(Step(chance.uniform(0.5, 1.5), "submit", about))
    return steps


def _times(chance: Random, often: float) -> int:
    """Return a number of times whose average is about `often`."""
    times = 0
    while often > 0:
        times += chance.random() < (often if often < 1 else 0.7)
        often -= 0.7 if often >= 1 else often
    return times
