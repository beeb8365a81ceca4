"""Make the steps that change lasting things: rules, settings, versions."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from tests.simulation.steps import STORY_SECONDS, Intents, Maker, Step, near
from tests.simulation.world import WORKERS

#: Steps and ticks that a symbol may get, coarser and finer than its first ones.
GRIDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "BTCUSDT": (("0.0001", "0.1"), ("0.001", "1"), ("0.000001", "0.001"), ("0.0001", "10")),
    "ETHUSDT": (("0.001", "0.1"), ("0.01", "1"), ("0.00001", "0.001"), ("0.005", "0.05")),
}
#: Other values of settings that a process may start with. None of them breaks an assumption.
_SETTINGS: Mapping[str, tuple[float, ...]] = {
    "EXCHANGE_READ_LAG_MS": (8_000, 20_000),
    "EXCHANGE_RECV_WINDOW_MS": (1_500, 3_000, 10_000),
    "EXCHANGE_REQUEST_TIMEOUT_MS": (2_000, 30_000),
    "EXCHANGE_ENGINE_TIMEOUT_MS": (15_000,),
    "PLACE_WITHIN_SECONDS": (5.0, 120.0),
    "MAX_UNSYNCED_SECONDS": (20.0, 600.0),
    "BALANCE_MAX_AGE_SECONDS": (1.0, 60.0),
    "BREAKER_FAILURES": (2,),
}
#: What a migration does, and how it is taken back after the story.
MIGRATIONS: Mapping[str, tuple[str, str]] = {
    "a longer trading state": (
        "ALTER TABLE exchanges_exchangeaccount ALTER trading_state TYPE varchar(20)",
        "ALTER TABLE exchanges_exchangeaccount ALTER trading_state TYPE varchar(16)",
    ),
    "wider numbers of epochs": (
        "ALTER TABLE exchanges_exchangeaccount ALTER epoch TYPE bigint",
        "ALTER TABLE exchanges_exchangeaccount ALTER epoch TYPE integer",
    ),
    "more digits of balances": (
        "ALTER TABLE exchanges_balance ALTER free TYPE numeric(40, 18)",
        "ALTER TABLE exchanges_balance ALTER free TYPE numeric(38, 18)",
    ),
    "more digits of orders": (
        "ALTER TABLE orders_order ALTER filled_quantity TYPE numeric(40, 18)",
        "ALTER TABLE orders_order ALTER filled_quantity TYPE numeric(38, 18)",
    ),
    "a column of orders": (
        "ALTER TABLE orders_order ADD COLUMN IF NOT EXISTS story text NOT NULL DEFAULT ''",
        "ALTER TABLE orders_order DROP COLUMN IF EXISTS story",
    ),
    "a column of attempts": (
        "ALTER TABLE orders_exchangeorder ADD COLUMN IF NOT EXISTS story integer",
        "ALTER TABLE orders_exchangeorder DROP COLUMN IF EXISTS story",
    ),
}


def _symbol_rules(chance: Random, intents: Intents) -> Step:
    """Give a symbol another step and tick, often while an intent of it is on its way."""
    symbol = chance.choice(list(GRIDS))
    step, tick = chance.choice(GRIDS[symbol])
    return Step(near(chance, intents)[2], "symbol_rules", rules(symbol, step, tick))


def rules(symbol: str, step: str, tick: str) -> dict[str, Any]:
    """Return what a step about the rules of a symbol says."""
    return {"symbol": symbol, "step": step, "tick": tick}


def _symbol_gone(chance: Random, intents: Intents) -> Step:
    about = {"symbol": chance.choice(list(GRIDS)), "for": chance.choice((3.0, 12.0))}
    return Step(near(chance, intents)[2], "symbol_gone", about)


def _some_settings(chance: Random) -> dict[str, float]:
    names = chance.sample(list(_SETTINGS), chance.choice((1, 1, 2)))
    return {name: chance.choice(_SETTINGS[name]) for name in names}


def _settings(chance: Random, intents: Intents) -> Step:
    """Start a process again with other settings."""
    about = {
        "process": chance.choice((*WORKERS, "listener")),
        "settings": _some_settings(chance),
        "pause": chance.choice((0.2, 2.0)),
    }
    return Step(near(chance, intents)[2], "settings", about)


def _deploy(chance: Random, intents: Intents) -> Step:
    """Stop every process, all at once or in turn, migrate, and start the new version."""
    about = {
        "how": chance.choice(("at once", "in turn")),
        "migration": chance.choice(list(MIGRATIONS)),
        "settings": _some_settings(chance) if chance.random() < 0.5 else {},
        "pause": chance.choice((0.2, 1.0, 6.0)),
    }
    return Step(near(chance, intents)[2], "deploy", about)


def _migration(chance: Random, intents: Intents) -> Step:
    """Migrate under workers that go on running."""
    about = {"migration": chance.choice(list(MIGRATIONS))}
    return Step(near(chance, intents)[2], "migration", about)


def _exchange_step(*seconds: float) -> Maker:
    def make(chance: Random, intents: Intents) -> Step:
        about = {"seconds": chance.choice(seconds)}
        return Step(near(chance, intents)[2], "exchange_step", about)

    return make


def _exchange_drift(chance: Random, intents: Intents) -> Step:
    """Let the exchange's clock gain or lose time. The rate is in ms each second."""
    about = {"rate": chance.choice((-100, -20, 20, 100))}
    return Step(chance.uniform(0.5, STORY_SECONDS), "exchange_drift", about)


def _new_limit(chance: Random, intents: Intents) -> Step:
    account, _, at = near(chance, intents)
    return Step(at, "new_limit", {"account": account, "open_orders": chance.randint(1, 5)})


def _redis_back(chance: Random, intents: Intents) -> Step:
    loses = chance.choice((0.3, 2.0, 8.0))
    return Step(near(chance, intents)[2], "redis_back", {"loses": loses})


CHANGES: dict[str, Maker] = {
    "symbol_rules": _symbol_rules,
    "symbol_gone": _symbol_gone,
    "settings": _settings,
    "deploy": _deploy,
    "migration": _migration,
    # The allowance of absence (20 s by the exchange's clock) has 5 s to spare in every story.
    "exchange_step": _exchange_step(-30.0, -3.0, -0.9, -0.4, 0.4, 0.9, 3.0),
    "exchange_leap": _exchange_step(30.0),
    "exchange_drift": _exchange_drift,
    "new_limit": _new_limit,
    "redis_back": _redis_back,
}
