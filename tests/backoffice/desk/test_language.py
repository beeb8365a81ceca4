"""English is the source language. The Russian catalog is complete, and the pages use it."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from orders.models import Status
from tests.factories import FillFactory, InstrumentFactory, OrderFactory

ROOT = Path(settings.BASE_DIR)
CATALOG = ROOT / "locale" / "ru" / "LC_MESSAGES" / "django"
MARKERS = {"_", "gettext", "gettext_lazy", "gettext_noop"}

MARKERS_WITH_CONTEXT = {"pgettext", "pgettext_lazy"}


def texts_of_python() -> Iterator[str]:
    for folder in ("backoffice", "exchanges", "orders"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in MARKERS
                ):
                    yield ast.literal_eval(node.args[0])
                elif (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in MARKERS_WITH_CONTEXT
                ):
                    yield _key(*(ast.literal_eval(part) for part in node.args[:2]))


def texts_of_templates() -> Iterator[str]:
    for path in (ROOT / "backoffice").rglob("*.html"):
        for _quote, text in re.findall(r"""{% translate (["'])(.+?)\1""", path.read_text()):
            yield text


def catalog() -> dict[str, str]:
    """Map each msgid to its translation in the compiled file."""
    with CATALOG.with_suffix(".mo").open("rb") as file:
        translations = gettext.GNUTranslations(file)
    entries: dict[str, str] = {}
    for key, value in vars(translations)["_catalog"].items():
        entries[key[0] if isinstance(key, tuple) else key] = value
    return entries


def test_catalog__translates_every_text() -> None:
    entries = catalog()
    marked = {*texts_of_python(), *texts_of_templates()}
    assert len(marked) > 200
    # "Django site admin" and the like are Django's own, translated by Django.
    assert sorted(text for text in marked if not entries.get(text)) == []


def _key(context: str, text: str) -> str:
    """Return the key of a text in a compiled catalog."""
    return f"{context}\x04{text}" if context else text


def source_pairs() -> list[tuple[str, str]]:
    """Return msgid and translation of the source file's entries without plural forms."""
    source = CATALOG.with_suffix(".po").read_text()
    assert "fuzzy" not in source
    entries: list[tuple[str, str, str]] = re.findall(
        r'^(?:msgctxt "(.+)"\n)?msgid "(.+)"\nmsgstr "(.*)"$', source, re.MULTILINE
    )
    pairs = [(_key(context, text), translation) for context, text, translation in entries]
    assert len(pairs) > 200
    return pairs


def test_catalog__is_compiled_from_the_committed_source() -> None:
    entries = catalog()
    assert {msgid: entries.get(msgid) for msgid, _text in source_pairs()} == dict(source_pairs())


def test_catalog__keeps_the_placeholders() -> None:
    for msgid, text in source_pairs():
        fields = r"%\(\w+\)[sd]|\{\w+\}"
        assert set(re.findall(fields, msgid)) == set(re.findall(fields, text)), msgid


@pytest.mark.django_db
def test_admin__speaks_the_language_that_was_chosen(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    assert 'value="ru"' in client.get("/admin/").content.decode()  # the switch
    client.post("/i18n/setlang/", {"language": "ru", "next": "/admin/"})
    fill = FillFactory()
    OrderFactory(status=Status.PENDING_NEW, account=fill.account)
    InstrumentFactory()
    expected = {
        "/admin/": ("Неразрешённые", "отправлена, не подтверждена", "Последние заявки"),
        "/admin/orders/order/": ("Количество", "исполнена", "Отменить выбранные заявки"),
        f"/admin/orders/order/{fill.order_id}/change/": (
            "Что дальше:",
            "Больше ничего не предстоит",
            "тейкер",
        ),
        f"/admin/exchanges/exchangeaccount/{fill.account_id}/change/": (
            "Остановить торговлю",
            "не задана",
        ),
        "/admin/exchanges/instrument/": ("Шаг цены", "симулятор"),
    }
    for address, texts in expected.items():
        html = client.get(address).content.decode()
        for text in texts:
            assert text in html, (address, text)
        for english in (
            "What happens next",
            "Filters<",
            "Unresolved",
            "Tick size",
            "Halt trading",
        ):
            assert english not in html, (address, english)


@pytest.mark.django_db
def test_admin__shows_figures_alike_in_both_languages(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    OrderFactory(quantity="1234567.5", status=Status.NEW)
    for language in ("en", "ru"):
        client.post("/i18n/setlang/", {"language": language})
        assert ">1234567.5<" in client.get("/admin/orders/order/").content.decode()
