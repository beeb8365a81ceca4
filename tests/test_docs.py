"""What the documents say is so."""

from __future__ import annotations

import re

import pytest
from celery import current_app
from django.core.management import get_commands

from exchanges.models import Environment, ExchangeAccount
from orders.models import Order
from orders.states import CLOSED, IN_FLIGHT, LOCAL, OPEN, TRANSITIONS, OrderStatus
from tests.fakes import FakeExchange
from tests.harness.processes import ROOT
from tests.harness.redis import TestRedis

DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
GROUPS = {"local": LOCAL, "in flight": IN_FLIGHT, "open": OPEN, "closed": CLOSED}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_architecture__prints_the_state_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([a-z ]+) \|(.*)\|$", read("ARCHITECTURE.md"), re.MULTILINE)
    printed = {OrderStatus(status): {*map(OrderStatus, re.findall(r"`(\w+)`", after))} for status, _, after in rows}
    assert printed == {status: set(after) for status, after in TRANSITIONS.items()}
    assert [OrderStatus(status) for status, _, _ in rows] == [*OrderStatus]
    assert all(OrderStatus(status) in GROUPS[group] for status, group, _ in rows)


@pytest.mark.django_db(transaction=True)
def test_readme__the_bot_places_and_cancels(redis_server: TestRedis, capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
    ExchangeAccount.objects.create(name="demo", environment=Environment.SIMULATOR)
    current_app.conf.task_always_eager = True
    try:
        with FakeExchange().installed() as exchange:
            exec(compile(program, "README.md", "exec"), {})
    finally:
        current_app.conf.task_always_eager = False
    assert capsys.readouterr().out == "NEW\nCANCELED\n"
    assert len(exchange.calls_of("place")) == len(exchange.calls_of("cancel")) == 1
    assert Order.objects.get().intent_id == "readme-1"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents__name_only_what_is_there(document: str) -> None:
    text = read(document)
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link
    known = get_commands()
    for command in re.findall(r"manage\.py ([a-z_]+)", text):
        assert command in known, command
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), target
    for module in re.findall(r"`((?:exchanges|orders|backoffice)/[\w/.]+)`", text):
        assert (ROOT / module).exists(), module


def test_readme__every_variable_is_explained() -> None:
    explained = read(".env.example")
    for name in re.findall(r"`([A-Z][A-Z_]{3,})`", read("README.md")):
        if name not in set(OrderStatus) and not name.startswith("EXCHANGE_TEST_1_"):
            assert f"{name}=" in explained, name
