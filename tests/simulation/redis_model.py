"""Redis as the limits use it: the four Lua scripts in Python, on the simulation's clock.

`test_redis_model` runs both on the same random requests, so the model can't drift from the scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any


class RedisModel:
    """Keys with a time to live. `now_ms` is the server's clock."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._values: dict[str, Any] = {}
        self._ends: dict[str, int] = {}

    def flush(self) -> None:
        self._values.clear()
        self._ends.clear()

    def copy(self) -> tuple[dict[str, Any], dict[str, int]]:
        """Return a snapshot, as a replica or a file has it."""
        return json.loads(json.dumps(self._values)), dict(self._ends)

    def put_back(self, snapshot: tuple[dict[str, Any], dict[str, int]]) -> None:
        values, ends = snapshot
        self._values, self._ends = json.loads(json.dumps(values)), dict(ends)

    def run(self, name: str, argument: bytes | str) -> Any:
        """Run the script of this name."""
        ask = json.loads(argument)
        return getattr(self, f"_{name}")(ask)

    # -- commands

    def _get(self, key: str) -> Any:
        end = self._ends.get(key)
        if end is not None and end <= self._now_ms():
            self._delete(key)
        return self._values.get(key)

    def _set(self, key: str, value: Any, *, px: int | None = None, keep: bool = False) -> None:
        self._get(key)
        self._values[key] = value
        if px is not None:
            self._ends[key] = self._now_ms() + int(px)
        elif not keep:
            self._ends.pop(key, None)

    def _delete(self, *keys: str) -> int:
        found = 0
        for key in keys:
            found += self._values.pop(key, None) is not None
            self._ends.pop(key, None)
        return found

    def _left_ms(self, key: str) -> int:
        if self._get(key) is None:
            return -2
        return self._ends[key] - self._now_ms() if key in self._ends else -1

    def _number(self, key: str) -> int:
        return int(self._get(key) or 0)

    def _add(self, key: str, amount: int) -> int:
        value = self._number(key) + amount
        self._set(key, value, keep=True)
        return value

    def _field(self, key: str, name: str) -> Any:
        return (self._get(key) or {}).get(name)

    def _set_field(self, key: str, name: str, value: Any) -> None:
        row = dict(self._get(key) or {})
        row[name] = value
        self._set(key, row, keep=True)

    # -- scripts

    def _acquire(self, ask: dict[str, Any]) -> list[Any]:
        keys = ask["keys"]
        of_all = self._stop_of(keys["stop"], ask["known_stop_ms"])
        of_kind = self._stop_of(keys["stop_of_kind"], ask["known_stop_of_kind_ms"])
        if max(of_all, of_kind) > 0:
            return [max(of_all, of_kind), "stopped by the exchange", of_all, of_kind]
        breaker = keys["breaker"]
        forced = self._field(breaker, "forced")
        if forced == "open":
            return [1000, "breaker held open"]
        is_open = forced != "closed" and bool(self._field(breaker, "open"))
        if is_open and (pause := self._left_ms(f"{breaker}:pause")) > 0:
            return [pause, "breaker open"]
        if self._number(keys["weight"]) + ask["weight"] > ask["ceiling"]:
            return [ask["minute_left_ms"], "request weight used up"]
        for order in ask["orders"]:
            if self._number(order["key"]) + 1 > order["limit"]:
                return [order["left_ms"], "order limit used up"]
        if is_open:
            probe = f"{breaker}:probe"
            if self._get(probe) is not None:
                return [1000, "breaker half-open"]
            self._set(probe, "1", px=ask["probe_ms"])
        return self._acquired(ask, is_open=is_open)

    def _acquired(self, ask: dict[str, Any], *, is_open: bool) -> list[Any]:
        weight = ask["keys"]["weight"]
        counts = [self._add(weight, ask["weight_now"])]
        self._ends[weight] = self._now_ms() + 120_000
        for order in ask["orders"]:
            counts.append(self._add(order["key"], 1))
            self._ends[order["key"]] = self._now_ms() + order["left_ms"] + 60_000
        token, claims = "", []
        if ask["book"]:
            token = self._field(ask["book"][0], "token") or ""
            claims = list(self._get(ask["book"][1]) or [])
        return [0, "", 1 if is_open else 0, counts, token, claims]

    def _stop_of(self, key: str, known: int) -> int:
        stop = self._left_ms(key)
        if known > 0 and known > stop:
            self._set(key, "1", px=known)
            return known
        return stop

    def _give_back(self, ask: dict[str, Any]) -> int:
        for key in ask["orders"]:
            if self._number(key) > 0:
                self._add(key, -1)
        if ask["breaker"]:
            self._delete(f"{ask['breaker']}:probe")
        return 1

    def _record_response(self, told: dict[str, Any]) -> str:
        keys = told["keys"]
        for key, stop in (
            (keys["stop"], told["stop_ms"]),
            (keys["stop_of_kind"], told["stop_of_kind_ms"]),
        ):
            if stop > 0 and stop > self._left_ms(key):
                self._set(key, "1", px=stop)
        used = self._add(keys["weight"], told["spent"])
        self._ends[keys["weight"]] = self._now_ms() + 120_000
        if told["used_weight"] > used:
            self._set(keys["weight"], told["used_weight"], px=120_000)
        for order in told["orders"]:
            if order["count"] > self._number(order["key"]):
                self._set(order["key"], order["count"], keep=True)
        return self._judge_breaker(keys["breaker"], told)

    def _judge_breaker(self, breaker: str, told: dict[str, Any]) -> str:
        sizes = told["breaker"]
        if told["outcome"] == "failed":
            failures = self._add(f"{breaker}:failures", 1)
            if failures == 1:
                self._ends[f"{breaker}:failures"] = self._now_ms() + sizes["window_ms"]
            was_probe = self._delete(f"{breaker}:probe") == 1
            if was_probe or failures >= sizes["failures"]:
                self._set_field(breaker, "open", "1")
                self._set(f"{breaker}:pause", "1", px=sizes["open_ms"])
                self._delete(f"{breaker}:failures")
                return "opened"
        elif told["outcome"] == "sound" and self._field(breaker, "open"):
            row = dict(self._get(breaker) or {})
            row.pop("open", None)
            self._set(breaker, row or None, keep=True)
            self._delete(f"{breaker}:probe", f"{breaker}:pause", f"{breaker}:failures")
            return "closed"
        return ""

    def _book(self, ask: dict[str, Any]) -> Any:
        book, claims = ask["keys"]
        token = self._field(book, "token") or ""
        known: Sequence[str] = self._get(claims) or []
        if ask["verb"] == "read":
            return [token, list(known)]
        if ask["verb"] == "begin":
            self._set_field(book, "token", ask["token"])
            self._delete(claims)
            return ""
        if token != ask["token"]:
            return "other book"
        if ask["names"][-1] in known:
            return "known"
        newest = [*reversed(ask["names"]), *known][: ask["newest"]]
        self._set(claims, newest, keep=True)
        return ""
