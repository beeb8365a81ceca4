"""Make the steps that have several parts, with the orders that they are about."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.simulation.change_steps import GRIDS, rules
from tests.simulation.steps import SYMBOL_PRICES, Intents, Maker, Step, make_intent, near
from tests.simulation.world import ACCOUNTS

#: Tables that the path of an order reads or writes.
_TABLES = (
    "orders_order",
    "orders_exchangeorder",
    "orders_orderevent",
    "exchanges_balance",
    "exchanges_exchangeaccount",
    "exchanges_instrument",
)


def _order(
    chance: Random, account: str, name: str, symbol: str, *, is_market: bool = False
) -> dict[str, Any]:
    """Return an order that fills at once, or one that stays open."""
    about = make_intent(chance, account, name, float(is_market), symbol)
    about.pop("is_dated", None)
    about["place_within_seconds"] = 120
    if not is_market:
        factor = 0.9 if about["side"] == "BUY" else 1.1
        about["price"] = f"{SYMBOL_PRICES[symbol] * factor:.2f}"
    return about


def _overtaken(chance: Random, intents: Intents) -> Step:
    account, symbol = chance.choice(ACCOUNTS), chance.choice(list(SYMBOL_PRICES))
    about = {
        "account": account,
        "kept": _order(chance, account, "kept", symbol),
        "lost": _order(chance, account, "lost", symbol, is_market=True),
        "again": chance.choice((5.0, 8.0)),
    }
    return Step(chance.uniform(7.0, 12.0), "overtaken", about)


def _lost_and_forgotten(chance: Random, intents: Intents) -> Step:
    account, symbol = chance.choice(ACCOUNTS), chance.choice(list(SYMBOL_PRICES))
    about = {
        "lost": _order(chance, account, "lost", symbol),
        "loses": chance.choice((0.8, 2.0)),
        "after": chance.choice((0.1, 1.0, 6.0)),
    }
    return Step(chance.uniform(7.0, 15.0), "lost_and_forgotten", about)


def _silent_broker(chance: Random, intents: Intents) -> Step:
    account, symbol = chance.choice(ACCOUNTS), chance.choice(list(SYMBOL_PRICES))
    waiting = [_order(chance, account, f"waiting-{number}", symbol) for number in range(4)]
    about = {
        "open": [_order(chance, account, f"open-{number}", symbol) for number in range(2)],
        "waiting": [order | {"way": "record"} for order in waiting],
    }
    return Step(chance.uniform(2.5, 3.0), "silent_broker", about)


def _request_cancels(chance: Random, intents: Intents) -> Step:
    """Record the cancel of everything at the end of the story."""
    return Step(28.0, "request_cancels", {"intents": []})


def _key_refused(chance: Random, intents: Intents) -> Step:
    account, _, at = near(chance, intents)
    return Step(at, "key_refused", {"account": account, "for": chance.choice((2.0, 8.0, 20.0))})


def _new_rules(chance: Random, intents: Intents) -> Step:
    """Change the rules of a symbol a moment before the first intent comes."""
    symbol = chance.choice(list(GRIDS))
    step, tick = GRIDS[symbol][1]
    at = min(intent.at for intent in intents) - chance.choice((0.05, 1.0))
    return Step(at, "new_rules", rules(symbol, step, tick))


def _late_table(chance: Random, intents: Intents) -> Step:
    about = {"table": chance.choice(_TABLES), "for": chance.choice((0.5, 2.0, 6.0))}
    return Step(near(chance, intents)[2], "late_table", about)


MISHAPS: dict[str, Maker] = {
    "overtaken": _overtaken,
    "lost_and_forgotten": _lost_and_forgotten,
    "silent_broker": _silent_broker,
    "request_cancels": _request_cancels,
    "key_refused": _key_refused,
    "new_rules": _new_rules,
    "late_table": _late_table,
}
