"""Make hostile messages from sound ones: a corpus, and strategies that change it in places."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

CORPUS = Path(__file__).with_name("corpus")

HOSTILE_TEXTS = (
    "",
    " ",
    "0",
    "-0",
    "-1",
    "1e5",
    "NaN",
    "Infinity",
    "٣",
    "1_000",
    "0x10",
    "9" * 19,
    "9" * 40,
    "0." + "1" * 40,
    "null",
    "BTCUSDT",
    "bo-a",
    "x" * 5000,
    "\x00",
    "\ud800",
    "'; DROP TABLE orders_order; --",
    "2026-11-29T00:00:00+99:99",
    "=1+1",
)
#: Values that a careless or hostile sender may put into any place.
hostile = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**53 + 1, 2**63, 2**70, -(2**63), 10**40]),
    st.sampled_from(HOSTILE_TEXTS),
    st.text(max_size=40),
    st.floats(),
    st.just([]),
    st.just({}),
    st.just([None]),
    st.just({"a": {"a": []}}),
    st.lists(st.integers(), max_size=3),
)


def corpus(name: str) -> Any:
    return json.loads((CORPUS / f"{name}.json").read_text())


def places(message: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a message, its root included."""
    found = [path]
    if isinstance(message, dict):
        for name, value in message.items():
            found += places(value, (*path, name))
    elif isinstance(message, list):
        for number, value in enumerate(message):
            found += places(value, (*path, number))
    return found


@st.composite
def mutated(draw: st.DrawFn, message: Any, *, most: int = 3) -> Any:
    """Return a copy with some values replaced or removed, or with names added.

    A drawn list is copied: the strategy draws the same one again, and no message contains itself.
    """
    message = copy.deepcopy(message)
    for _ in range(draw(st.integers(0, most))):
        path = draw(st.sampled_from(places(message)))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(hostile)
            continue
        owner = message
        for step in path[:-1]:
            owner = owner[step]
        verb = draw(st.sampled_from(("replace", "replace", "remove", "double", "add")))
        if verb == "replace":
            owner[path[-1]] = copy.deepcopy(draw(hostile))
        elif verb == "remove":
            del owner[path[-1]]
        elif isinstance(owner, list):
            owner.append(copy.deepcopy(draw(hostile) if verb == "add" else owner[path[-1]]))
        else:
            owner[draw(st.text(max_size=8))] = copy.deepcopy(draw(hostile))
    return message


@st.composite
def damaged_text(draw: st.DrawFn, text: str) -> bytes:
    """Return the text as bytes, cut, doubled or with some bytes changed."""
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        verb = draw(st.sampled_from(("change", "cut", "insert")))
        if verb == "change":
            data[at] = draw(st.integers(0, 255))
        elif verb == "cut":
            del data[at:]
        else:
            data[at:at] = draw(st.binary(max_size=6))
    return bytes(data)
