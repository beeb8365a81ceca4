"""Read and match fault rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from exchanges.simulator.exchange.fault_rules import (
    REQUEST_ACTIONS,
    STREAM_ACTIONS,
    FaultBook,
    FaultError,
    Subject,
)


def test_random__is_repeatable_by_its_seed() -> None:
    rule = {
        "random": {
            "seed": 5,
            "rate": 0.3,
            "actions": ["reset_after", {"action": "delay_answer", "seconds": 1}],
        }
    }

    def strikes() -> list[str | None]:
        book = FaultBook()
        book.add(rule)
        actions = [book.take(Subject("rest", "POST", "/api/v3/order")) for _ in range(50)]
        return [None if action is None else action.action for action in actions]

    first = strikes()
    assert first == strikes()
    assert {"reset_after", "delay_answer", None} == set(first)


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"action": "explode"}, "action"),
        ({"action": "drop", "match": {"api": "rest"}}, "action"),
        ({"match": {"verb": "GET"}}, "verb"),
        ({"match": {"api": "fax"}}, "api"),
        ({"match": []}, "match"),
        ({"times": -1}, "times"),
        ({"times": True}, "times"),
        ({"seconds": "soon"}, "seconds"),
        ({"status": 42}, "status"),
        ({"kind": "novel", "action": "garbage"}, "kind"),
        ({"set": ["price"], "action": "alter"}, "set"),
        ({"remove": "price", "action": "alter"}, "remove"),
        ({"row": "all", "action": "alter"}, "row"),
        ({"surprise": 1}, "surprise"),
        ({"random": {"rate": 2, "actions": ["none"]}}, "rate"),
        ({"random": {"actions": []}}, "random"),
        ("reset", "object"),
    ],
)
def test_add__refuses_what_it_does_not_understand(rule: Any, key: str) -> None:
    book = FaultBook()
    with pytest.raises(FaultError, match=key):
        book.add([{"action": "none"}, rule])
    assert book.rules == []


DOCS = Path(__file__).parents[4] / "docs" / "simulator.md"


def documented_rules() -> list[Any]:
    """Return every JSON object of the page's section on faults."""
    section = DOCS.read_text().split("## Faults", 1)[1].split("## In tests", 1)[0]
    blocks = re.findall(r"```json\n(.*?)```", section, re.DOTALL) + re.findall(
        r"`(\{\".*?\})` \|", section
    )
    return [json.loads(block) for block in blocks]


def test_docs__every_action_has_an_example_that_is_understood() -> None:
    rules = documented_rules()
    book = FaultBook()
    book.add(rules)
    shown = {rule.get("action", "none") for rule in rules}
    told = DOCS.read_text()
    assert {action for action in REQUEST_ACTIONS | STREAM_ACTIONS if f"`{action}`" not in told} == {
        "none"
    }
    assert len(shown) >= 18
