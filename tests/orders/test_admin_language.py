"""English is the source; the Russian catalogue is complete and is what the pages show."""

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
CATALOGUE = ROOT / "locale" / "ru" / "LC_MESSAGES" / "django"
MARKERS = {"_", "gettext", "gettext_lazy", "gettext_noop"}


def texts_of_python() -> Iterator[str]:
    for folder in ("backoffice", "exchanges", "orders"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKERS:
                    yield ast.literal_eval(node.args[0])


def texts_of_templates() -> Iterator[str]:
    for path in (ROOT / "backoffice" / "templates").rglob("*.html"):
        yield from re.findall(r"""{% translate ["'](.+?)["']""", path.read_text())


def catalogue() -> dict[str, str]:
    """msgid -> translation, as the compiled file has it."""
    with CATALOGUE.with_suffix(".mo").open("rb") as file:
        translations = gettext.GNUTranslations(file)
    entries: dict[str, str] = {}
    for key, value in vars(translations)["_catalog"].items():
        entries[key[0] if isinstance(key, tuple) else key] = value
    return entries


def test_catalogue__translates_every_text() -> None:
    entries = catalogue()
    marked = {*texts_of_python(), *texts_of_templates()}
    assert len(marked) > 200
    # "Django site admin" and the like are Django's own, translated by Django.
    assert sorted(text for text in marked if not entries.get(text)) == []


def source_pairs() -> list[tuple[str, str]]:
    """msgid and translation of the entries without plural forms, as the source file has them."""
    source = CATALOGUE.with_suffix(".po").read_text()
    assert "fuzzy" not in source
    pairs: list[tuple[str, str]] = re.findall(r'^msgid "(.+)"\nmsgstr "(.*)"$', source, re.MULTILINE)
    assert len(pairs) > 200
    return pairs


def test_catalogue__is_compiled_from_the_committed_source() -> None:
    entries = catalogue()
    assert {msgid: entries.get(msgid) for msgid, _text in source_pairs()} == dict(source_pairs())


def test_catalogue__keeps_the_placeholders() -> None:
    for msgid, text in source_pairs():
        assert set(re.findall(r"%\(\w+\)[sd]", msgid)) == set(re.findall(r"%\(\w+\)[sd]", text)), msgid


@pytest.mark.django_db
def test_admin__speaks_the_language_that_was_chosen(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    assert 'value="ru"' in client.get("/admin/").content.decode()  # the switch
    client.post("/i18n/setlang/", {"language": "ru", "next": "/admin/"})
    fill = FillFactory()
    OrderFactory(status=Status.PENDING_NEW, account=fill.account)
    InstrumentFactory()
    expected = {
        "/admin/": ("Неразрешённые заявки", "отправлена, не подтверждена", "Последние заявки"),
        "/admin/orders/order/": ("Количество", "исполнена", "Отменить выбранные заявки"),
        f"/admin/orders/order/{fill.order_id}/change/": ("Что дальше:", "Больше ничего не предстоит", "тейкер"),
        f"/admin/exchanges/exchangeaccount/{fill.account_id}/change/": ("Остановить торговлю", "не задана"),
        "/admin/exchanges/instrument/": ("Шаг цены", "симулятор"),
    }
    for address, texts in expected.items():
        html = client.get(address).content.decode()
        for text in texts:
            assert text in html, (address, text)
        for english in ("What happens next", "Filters<", "Unresolved", "Price step", "Halt trading"):
            assert english not in html, (address, english)


@pytest.mark.django_db
def test_admin__shows_figures_alike_in_both_languages(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    OrderFactory(quantity="1234567.5", status=Status.NEW)
    for language in ("en", "ru"):
        client.post("/i18n/setlang/", {"language": language})
        assert ">1234567.5<" in client.get("/admin/orders/order/").content.decode()
