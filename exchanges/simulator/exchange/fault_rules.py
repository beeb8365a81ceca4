"""Script faults: let the next matching requests or stream events fail in a chosen way.

A rule is a JSON object. `match` selects requests, `action` is the fault, `times` the number of
matches it applies to (null: until cleared), and `skip` the number of matches that pass first. Some
keys combine with any action: `invisible_for`, `stale_for`, `clock_skew_ms`, `skip_engine_check`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from exchanges.simulator.exchange.alteration import Alteration

REQUEST_ACTIONS = frozenset(
    {
        "none",
        "alter",
        "reset_before",
        "reset_after",
        "close_before",
        "close_after",
        "delay_answer",
        "delay_execution",
        "execute_late_after_disconnect",
        "never_answer",
        "respond",
        "garbage",
        "rate_limited",
        "banned",
        "maintenance",
        "timeout",
    }
)
STREAM_ACTIONS = frozenset(
    {
        "alter",
        "drop_event",
        "mute",
        "half_open",
        "delay",
        "duplicate",
        "reorder",
        "slow_consumer",
        "drop",
        "reset",
        "close",
    }
)
GARBAGE_KINDS = ("html", "truncated", "cut", "empty", "object", "list", "null", "text")
APIS = ("rest", "ws", "stream")


class FaultError(ValueError):
    """Signal an invalid rule. The text names the key."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Describe a request or a stream event to the rules."""

    api: str
    method: str = ""
    path: str = ""
    ws_method: str = ""
    symbol: str = ""
    client_order_id: str = ""
    account: str = ""
    event: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """Select requests or events.

    An empty text matches anything. `method` is an HTTP method or a WebSocket API method name.
    """

    api: str = ""
    method: str = ""
    path: str = ""
    symbol: str = ""
    client_order_id_prefix: str = ""
    account: str = ""
    event: str = ""

    def accepts(self, subject: Subject) -> bool:
        if self.api:
            if self.api != subject.api:
                return False
        elif subject.api == "stream":
            return False
        return (
            (not self.method or self.method in (subject.method, subject.ws_method))
            and (not self.path or self.path == subject.path)
            and (not self.symbol or self.symbol == subject.symbol)
            and (not self.account or self.account == subject.account)
            and (not self.event or self.event == subject.event)
            and subject.client_order_id.startswith(self.client_order_id_prefix)
        )


@dataclass(frozen=True, slots=True)
class Action:
    """Describe a fault. Times are in seconds.

    `execute` says whether the request still executes, before its answer. Only `respond`, `garbage`
    and `never_answer` use it.
    """

    action: str = "none"
    seconds: float = 0.0
    execute: bool | None = None
    status: int = 200
    body: Any = None
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "html"
    retry_after: float = 1.0
    copies: int = 2
    rate: float = 1.0
    max_queue: int = 100
    code: int = 1006
    invisible_for: float = 0.0
    stale_for: float = 0.0
    clock_skew_ms: int = 0
    skip_engine_check: bool = False
    row: int = 0
    where: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    append: Mapping[str, Any] = field(default_factory=dict)
    remove: Sequence[str] = ()

    def alter(self, body: Any) -> Any:
        """Return the body of an answer, or an event, as `alter` changes it."""
        return Alteration(
            row=self.row,
            where=self.where,
            values=self.set,
            append=self.append,
            remove=self.remove,
        ).apply(body)


_ACTION_KEYS = {item.name for item in fields(Action)}
_MATCH_KEYS = {item.name for item in fields(Match)}
_RULE_KEYS = {"match", "times", "skip", "random", *_ACTION_KEYS}
_NUMBERS = ("seconds", "retry_after", "rate", "invisible_for", "stale_for")
_INTEGERS = ("status", "copies", "max_queue", "code", "clock_skew_ms", "row")
_OBJECTS = ("where", "set", "append")


def _check_types(values: Mapping[str, Any]) -> None:
    for key in _NUMBERS:
        if key in values and (
            isinstance(values[key], bool) or not isinstance(values[key], int | float)
        ):
            raise FaultError(f"{key}: must be a number of seconds")
    for key in _INTEGERS:
        if key in values and (isinstance(values[key], bool) or not isinstance(values[key], int)):
            raise FaultError(f"{key}: must be an integer")
    for key in _OBJECTS:
        if not isinstance(values.get(key, {}), Mapping):
            raise FaultError(f"{key}: must be an object")
    names = values.get("remove", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FaultError("remove: must be a list of keys")


def read_action(row: Mapping[str, Any], allowed: frozenset[str]) -> Action:
    values = {key: row[key] for key in _ACTION_KEYS if key in row}
    name = values.get("action", "none")
    if name not in allowed:
        raise FaultError(f"action: {name!r} is not one of {', '.join(sorted(allowed))}")
    _check_types(values)
    if values.get("kind", "html") not in GARBAGE_KINDS:
        raise FaultError(f"kind: must be one of {', '.join(GARBAGE_KINDS)}")
    if not 100 <= values.get("status", 200) <= 599:
        raise FaultError("status: must be an HTTP status")
    return Action(**values)


def read_match(row: Any) -> Match:
    if not isinstance(row, Mapping):
        raise FaultError("match: must be an object")
    unknown = row.keys() - _MATCH_KEYS
    if unknown:
        raise FaultError(f"match: unknown key {min(unknown)!r}")
    if not all(isinstance(value, str) for value in row.values()):
        raise FaultError("match: every value must be text")
    if row.get("api", "") not in ("", *APIS):
        raise FaultError(f"match.api: must be one of {', '.join(APIS)}")
    return Match(**row)


class Rule:
    """Apply one rule and count its hits.

    With `random`, the rule applies at a rate and picks one of several actions.
    """

    def __init__(self, rule_id: int, row: Mapping[str, Any]) -> None:
        if not isinstance(row, Mapping):
            raise FaultError("a rule must be an object")
        unknown = row.keys() - _RULE_KEYS
        if unknown:
            raise FaultError(f"unknown key {min(unknown)!r}")
        self.rule_id = rule_id
        self.row = dict(row)
        self.match = read_match(row.get("match", {}))
        allowed = STREAM_ACTIONS | {"none"} if self.match.api == "stream" else REQUEST_ACTIONS
        self.action = read_action(row, allowed)
        self.remaining = _count(row.get("times", None if "random" in row else 1), "times")
        self.skip = _count(row.get("skip", 0), "skip") or 0
        self.hits = 0
        self.generator: random.Random | None = None
        self.choices: tuple[Action, ...] = ()
        if "random" in row:
            self._read_random(row["random"], allowed)

    def _read_random(self, row: Any, allowed: frozenset[str]) -> None:
        if (
            not isinstance(row, Mapping)
            or not isinstance(row.get("actions"), list)
            or not row["actions"]
        ):
            raise FaultError("random: must be an object with seed, rate and a list of actions")
        rate = row.get("rate", 0.1)
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise FaultError("random.rate: must be a number from 0 to 1")
        self.rate = float(rate)
        self.generator = random.Random(row.get("seed", 0))  # seeded, so that runs repeat
        self.choices = tuple(
            read_action({"action": item} if isinstance(item, str) else item, allowed)
            for item in row["actions"]
        )

    def strike(self) -> Action | None:
        """Return the action for a matching subject, or None to let the subject pass."""
        if self.skip:
            self.skip -= 1
            return None
        action = self.action
        if self.generator is not None:
            if self.generator.random() >= self.rate:
                return None
            action = self.generator.choice(self.choices)
        self.hits += 1
        if self.remaining is not None:
            self.remaining -= 1
        return action

    def describe(self) -> dict[str, Any]:
        return {
            "id": self.rule_id,
            "rule": self.row,
            "remaining": self.remaining,
            "hits": self.hits,
        }


def _count(value: Any, key: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise FaultError(f"{key}: must be a whole number or null")
    return value


class FaultBook:
    """Keep all rules in order. The first rule that matches and strikes wins."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self._next_id = 1

    def add(self, rows: Any) -> list[Rule]:
        """Add one rule or a list of rules. If one is invalid, add none."""
        listed = rows if isinstance(rows, list) else [rows]
        rules = [Rule(self._next_id + index, row) for index, row in enumerate(listed)]
        self._next_id += len(rules)
        self.rules.extend(rules)
        return rules

    def clear(self, rule_id: int | None = None) -> int:
        kept = [] if rule_id is None else [rule for rule in self.rules if rule.rule_id != rule_id]
        removed = len(self.rules) - len(kept)
        self.rules = kept
        return removed

    def take(self, subject: Subject) -> Action | None:
        for rule in self.rules:
            if rule.remaining == 0 or not rule.match.accepts(subject):
                continue
            action = rule.strike()
            if action is not None:
                return action
        return None

    def active(self) -> bool:
        return any(rule.remaining != 0 for rule in self.rules)

    def describe(self) -> list[dict[str, Any]]:
        return [rule.describe() for rule in self.rules]
