"""Check the documents against the code."""

from __future__ import annotations

import re
import tomllib

import pytest
from celery import current_app
from django.core.management import get_commands

from backoffice.local.run import SEND_ORDERS
from exchanges.models import Environment, ExchangeAccount
from orders.models import Order
from orders.states import CLOSED, IN_FLIGHT, LOCAL, OPEN, TRANSITIONS, OrderStatus
from tests.fakes import FakeExchange
from tests.harness.processes import ROOT
from tests.harness.redis import TestRedis

DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/benchmarks.md",
    "docs/bots.md",
    "docs/database-roles.md",
    "docs/faults.md",
    "docs/glossary.md",
    "docs/operations.md",
    "docs/people.md",
    "docs/proof.md",
    "docs/roles.md",
    "docs/security.md",
    "docs/simulator.md",
    "tests/README.md",
]
GROUPS = {"local": LOCAL, "in flight": IN_FLIGHT, "open": OPEN, "closed": CLOSED}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_architecture__prints_the_state_table() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| ([a-z ]+) \|(.*)\|$", read("ARCHITECTURE.md"), re.MULTILINE
    )
    printed = {
        OrderStatus(status): {*map(OrderStatus, re.findall(r"`(\w+)`", after))}
        for status, _, after in rows
    }
    assert printed == {status: set(after) for status, after in TRANSITIONS.items()}
    assert [OrderStatus(status) for status, _, _ in rows] == [*OrderStatus]
    assert all(OrderStatus(status) in GROUPS[group] for status, group, _ in rows)


@pytest.mark.django_db(transaction=True)
def test_readme__the_bot_places_and_cancels(
    redis_server: TestRedis, capsys: pytest.CaptureFixture[str]
) -> None:
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
        assert link.startswith("https://") or (ROOT / document).parent.joinpath(link).exists(), link
    known = get_commands()
    for command in re.findall(r"manage\.py ([a-z_]+)", text):
        assert command in known, command
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), target
    for module in re.findall(r"`((?:exchanges|orders|backoffice)/[\w/.]+)`", text):
        assert (ROOT / module).exists(), module


def test_architecture__answers_where_to_find_things() -> None:
    """Each of the questions is answered by one or two files, which define the names beside them."""
    section = read("ARCHITECTURE.md").split("## Where do I find ...")[1].split("\n## ")[0]
    answers = re.findall(r"^\| (.+\?) \| (.+) \|$", section, re.MULTILINE)
    assert len(dict(answers)) == len(answers) >= 20
    for question, answer in answers:
        words = re.findall(r"`([^`]+)`", answer)
        files = [word for word in words if (ROOT / word).is_file()]
        assert 1 <= len(files) <= 2, question
        for name in set(words) - set(files):
            defined = re.compile(rf"^(def|class) {name}\b", re.MULTILINE)
            assert any(defined.search(read(file)) for file in files), (question, name)


def test_glossary__defines_each_term_once_and_is_linked() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", read("docs/glossary.md"), re.MULTILINE)
    assert len(terms) == len(set(terms)) > 50
    for document in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"):
        assert "](docs/glossary.md)" in read(document), document


def test_changelog__has_a_dated_section_for_the_version() -> None:
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    sections = re.findall(r"^## \[(.+?)\](.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == version
    assert all(re.fullmatch(r" - \d{4}-\d{2}-\d{2}", date) for _, date in sections[1:])


def test_readme__sends_orders_as_the_demo_says() -> None:
    """With several accounts, the command without one only asks for it."""
    assert f"\n    {SEND_ORDERS}\n" in read("README.md")


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md", "docs/bots.md"])
def test_readme__every_variable_is_explained(page: str) -> None:
    explained = read(".env.example")
    for name in re.findall(r"`([A-Z][A-Z_]{3,})`", read(page)):
        if name not in set(OrderStatus) and not name.startswith("EXCHANGE_TEST_1_"):
            assert f"{name}=" in explained, name


def test_faults__names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+__\w+)`", read("docs/faults.md")))
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 60
    assert named <= set(re.findall(r"def (test_\w+)\(", sources))
