"""The journal: what is recorded, that nothing in it can be changed, and that a change is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction
from django.test import Client
from pytest_django.fixtures import Settings

from backoffice.people.journal.anchors import Anchor, anchor, read_anchors
from backoffice.people.journal.chain import GENESIS, digest
from backoffice.people.journal.verifying import verify
from backoffice.people.models import JournalEntry, JournalHead
from exchanges import acts, trading_state
from exchanges.models import ExchangeAccount, TradingHalt
from orders.models import Fill, OrderEvent
from tests.factories import FillFactory, OrderEventFactory, OrderFactory
from tests.steps import as_a_restore

pytestmark = pytest.mark.django_db

ROWS = 8


def last() -> JournalEntry:
    return JournalEntry.objects.order_by("-id")[0]


def fill_journal(count: int = ROWS) -> None:
    for number in range(1, count + 1):
        acts.record_act(
            "halt",
            actor="rule:test",
            subject=f"account:a-{number}",
            account=f"a-{number}",
            reason=f"reason {number}",
            before={"trading_state": "ACTIVE"},
            after={"trading_state": "HALTED", "number": number},
        )


# -- the chain ------------------------------------------------------------------------------------


def test_record_act__makes_a_chain_without_gaps() -> None:
    fill_journal(3)
    first, second, third = JournalEntry.objects.order_by("id")
    assert [first.pk, second.pk, third.pk] == [1, 2, 3]
    assert first.previous_hash == GENESIS
    assert (second.previous_hash, third.previous_hash) == (first.hash, second.hash)
    head = JournalHead.objects.get()
    assert (head.position, head.hash) == (3, third.hash)
    assert verify().findings == []


def test_record_act__stores_any_value_as_the_database_gives_it_back() -> None:
    value = {"float": 1e22, "nested": [{"x": 0.1}], "none": None, "text": "a\0b\ud800 é", "n": 3}
    acts.record_act("halt", actor="rule:x", subject="trading", reason="r\0", after=value)
    assert verify().findings == []
    assert last().after == {
        "float": "1e+22",
        "nested": [{"x": "0.1"}],
        "none": None,
        "text": "ab? é",
        "n": 3,
    }


def test_record_act__goes_with_the_transaction_of_the_act() -> None:
    with transaction.atomic():
        acts.record_act("halt", actor="rule:x", subject="trading")
        transaction.set_rollback(True)
    assert not JournalEntry.objects.exists()


def test_record_act__is_not_stopped_by_a_row_behind_the_end() -> None:
    fill_journal(2)
    JournalEntry.objects.create(id=3, at=last().at, previous_hash="", hash="", subject="forged")
    fill_journal(1)
    assert last().pk == 4
    assert [(found.position, found.kind) for found in verify().findings] == [
        (3, "broken link"),
        (3, "edited"),
        (4, "broken link"),
    ]


# -- twenty ways to change it ---------------------------------------------------------------------


def change(**fields: Any) -> Callable[[], None]:
    def do() -> None:
        JournalEntry.objects.filter(pk=4).update(**fields)

    return do


def swap(one: int, other: int) -> None:
    for row, key in ((one, 1000), (other, one), (1000, other)):
        JournalEntry.objects.filter(pk=row).update(id=key)


def rehash(entry: JournalEntry, **fields: Any) -> JournalEntry:
    for name, value in fields.items():
        setattr(entry, name, value)
    entry.hash = digest(entry)
    return entry


def edit_with_its_hash() -> None:
    rehash(JournalEntry.objects.get(pk=4), reason="another").save()


def remove(*keys: int) -> Callable[[], None]:
    def do() -> None:
        JournalEntry.objects.filter(pk__in=keys).delete()

    return do


def remove_and_close_the_gap() -> None:
    JournalEntry.objects.filter(pk=4).delete()
    for key in range(5, ROWS + 1):
        JournalEntry.objects.filter(pk=key).update(id=key - 1)
    JournalHead.objects.update(position=ROWS - 1)


def remove_and_link_again() -> None:
    JournalEntry.objects.filter(pk=4).delete()
    third = JournalEntry.objects.get(pk=3)
    rehash(JournalEntry.objects.get(pk=5), previous_hash=third.hash).save()


def insert_between() -> None:
    for key in range(ROWS, 3, -1):
        JournalEntry.objects.filter(pk=key).update(id=key + 1)
    copied = JournalEntry.objects.get(pk=3)
    rehash(copied, id=4, previous_hash=copied.hash, reason="forged").save(force_insert=True)
    JournalHead.objects.update(position=ROWS + 1)


def insert_behind_the_end() -> None:
    copied = last()
    rehash(copied, id=ROWS + 1, previous_hash=copied.hash).save(force_insert=True)


def insert_far_behind() -> None:
    rehash(last(), id=ROWS + 100).save(force_insert=True)


def cut_tail() -> None:
    JournalEntry.objects.filter(pk__gt=6).delete()


def cut_tail_and_move_the_end() -> None:
    JournalEntry.objects.filter(pk__gt=6).delete()
    JournalHead.objects.update(position=6, hash=last().hash)


def cut_everything() -> None:
    JournalEntry.objects.all().delete()
    JournalHead.objects.all().delete()


def rebuild(**first: Any) -> None:
    """Write the whole chain again, with every hash as it should be."""
    previous = GENESIS
    for row in list(JournalEntry.objects.order_by("id")):
        changed = first if row.pk == 2 else {}
        rehash(row, previous_hash=previous, **changed).save()
        previous = row.hash
    JournalHead.objects.update(hash=previous)


def change_the_end() -> None:
    JournalHead.objects.update(hash="1" * 64)


def remove_the_end() -> None:
    JournalHead.objects.all().delete()


TAMPERING: dict[str, tuple[Callable[[], Any], int, str]] = {
    "the reason edited": (change(reason="another"), 4, "edited"),
    "the person edited": (change(person="somebody"), 4, "edited"),
    "the time edited": (lambda: change(at="2020-01-01T00:00:00Z")(), 4, "edited"),
    "the verb edited": (change(verb="resume"), 4, "edited"),
    "the record edited": (change(subject="account:b"), 4, "edited"),
    "the address edited": (change(address="10.0.0.1"), 4, "edited"),
    "the state before edited": (change(before={}), 4, "edited"),
    "the state after edited": (change(after={"trading_state": "ACTIVE"}), 4, "edited"),
    "the records touched edited": (change(touched=[]), 4, "edited"),
    "the hash edited": (change(hash="1" * 64), 4, "edited"),
    "a row and its hash edited": (edit_with_its_hash, 5, "broken link"),
    "a row removed": (remove(4), 4, "removed"),
    "three rows removed": (remove(3, 4, 5), 3, "removed"),
    "the first row removed": (remove(1), 1, "removed"),
    "a row removed, the gap closed": (remove_and_close_the_gap, 4, "broken link"),
    "a row removed, the next linked again": (remove_and_link_again, 4, "removed"),
    "a row inserted between": (insert_between, 5, "broken link"),
    "a row inserted behind the end": (insert_behind_the_end, ROWS + 1, "inserted"),
    "a row inserted far behind": (insert_far_behind, ROWS + 1, "inserted"),
    "two neighbors swapped": (lambda: swap(4, 5), 4, "broken link"),
    "two distant rows swapped": (lambda: swap(2, 6), 2, "broken link"),
    "the tail cut": (cut_tail, 7, "tail cut"),
    "the tail cut and the end moved": (cut_tail_and_move_the_end, ROWS, "tail cut"),
    "everything removed": (cut_everything, ROWS, "tail cut"),
    "the chain rebuilt": (lambda: rebuild(reason="another"), ROWS, "rebuilt"),
    "the end changed": (change_the_end, ROWS, "end changed"),
    "the end removed": (remove_the_end, ROWS, "end removed"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_verify_journal__finds(name: str, tmp_path: Path, settings: Settings) -> None:
    tamper, position, kind = TAMPERING[name]
    settings.JOURNAL_ANCHOR_FILE = str(tmp_path / "anchors")
    fill_journal()
    anchor()
    anchors = list(read_anchors(tmp_path / "anchors"))
    assert verify(anchors).findings == []
    with as_a_restore():
        tamper()
    found = [(found.position, found.kind) for found in verify(anchors).findings]
    assert (position, kind) in found
    said = StringIO()
    with pytest.raises(SystemExit) as stopped:
        call_command("verify_journal", stdout=said)
    assert stopped.value.code == 1
    assert said.getvalue().startswith(f"entry {min(found)[0]}: ")


def test_verify_journal__names_the_row_that_was_swapped() -> None:
    fill_journal()
    with as_a_restore():
        swap(2, 6)
    texts = [str(found) for found in verify().findings]
    assert "entry 2: reordered: it was entry 6" in texts
    assert "entry 6: reordered: it was entry 2" in texts


def test_verify_journal__says_when_all_is_well(tmp_path: Path) -> None:
    fill_journal(2)
    said = StringIO()
    call_command("verify_journal", stdout=said)
    assert said.getvalue().startswith("2 entries and 0 anchors checked: nothing was changed.\n")
    said = StringIO()
    call_command("verify_journal", "--json", stdout=said)
    assert json.loads(said.getvalue()) == {
        "entries": 2,
        "anchors": 0,
        "head_hash": last().hash,
        "findings": [],
    }


def test_read_anchors__reads_a_log_of_json_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        'not json {\n{"event": "journal_anchored", "position": 3, "hash": "ab", "at": "t"}\n'
        '{"event": "order_swept", "position": 4, "hash": "cd"}\n'
        'worker | {"position": 5, "hash": "ef"}\n'
    )
    assert list(read_anchors(log)) == [Anchor(3, "ab", "t"), Anchor(5, "ef", "")]


def test_anchor__goes_on_without_its_file(settings: Settings, tmp_path: Path) -> None:
    settings.JOURNAL_ANCHOR_FILE = str(tmp_path / "missing" / "file")
    fill_journal(1)
    assert anchor().position == 1


# -- append-only ----------------------------------------------------------------------------------


def refused(statement: str) -> None:
    with (
        pytest.raises(ProgrammingError, match="is refused"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.mark.parametrize(
    "table", ["people_journalentry", "people_journalhead", "orders_orderevent", "orders_fill"]
)
def test_database__refuses_to_change_the_record(table: str) -> None:
    fill_journal(1)
    FillFactory()
    OrderEventFactory()
    column = "position = 0" if table == "people_journalhead" else "id = id + 1"
    refused(f"UPDATE {table} SET {column}")
    refused(f"DELETE FROM {table}")
    with connection.cursor() as cursor:  # `conftest` lets transactional tests empty the tables
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER refuse_truncate")
    refused(f"TRUNCATE {table} CASCADE")


def test_database__lets_fills_and_events_move_to_their_order() -> None:
    fill, event, order = FillFactory(), OrderEventFactory(), OrderFactory()
    Fill.objects.filter(pk=fill.pk).update(order=order)
    OrderEvent.objects.filter(pk=event.pk).update(order=order)
    with pytest.raises(ProgrammingError, match="is refused"), transaction.atomic():
        Fill.objects.filter(pk=fill.pk).update(order=order, quantity=7)


# -- acts -----------------------------------------------------------------------------------------


def test_halt__names_person_source_reason_before_and_after(
    demo: ExchangeAccount, client: Client
) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    client.post(
        f"/admin/exchanges/exchangeaccount/{demo.pk}/halt/",
        {"confirmed": "1", "reason": "too wild"},
        REMOTE_ADDR="192.0.2.7",
    )
    entry = last()
    assert (entry.verb, entry.person, entry.source) == ("halt", "boss", "desk")
    assert (entry.subject, entry.account, entry.reason) == ("account:demo", "demo", "too wild")
    assert (entry.address, len(entry.session)) == ("192.0.2.7", 12)
    assert entry.before["trading_state"] == "ACTIVE"
    assert entry.after["trading_state"] == "HALTED"
    assert entry.touched == ["account:demo"]


def test_resume__names_the_halt_that_it_lifts(demo: ExchangeAccount) -> None:
    trading_state.halt_by_rule(account=demo, reason="lost too much", actor="rule:daily-loss")
    assert (last().source, last().person) == ("rule", "rule:daily-loss")
    call_command("resume_trading", "--account", "demo", "--reason", "looked", stdout=StringIO())
    entry = last()
    assert (entry.verb, entry.source) == ("resume", "shell")
    assert entry.person.startswith("shell:")
    assert entry.before["trading_state_reason"] == "lost too much"
    assert entry.after["trading_state_reason"] == "looked"


def test_resume__of_another_halt_leaves_no_entry(demo: ExchangeAccount) -> None:
    trading_state.halt_trading(account=None, reason="first", actor="exchange")
    seen = trading_state.seen_state(None)
    trading_state.halt_trading(account=None, reason="second", actor="exchange")
    count = JournalEntry.objects.count()
    with pytest.raises(trading_state.NewerHalt):
        trading_state.resume_trading(account=None, reason="r", actor="x", seen=seen)
    assert JournalEntry.objects.count() == count
    assert TradingHalt.objects.get().is_halted


def test_reduce__is_recorded_once(demo: ExchangeAccount) -> None:
    assert trading_state.reduce_trading(account=demo, reason="r", actor="exchange")
    trading_state.halt_trading(account=demo, reason="r", actor="exchange")
    assert not trading_state.reduce_trading(account=demo, reason="r", actor="exchange")
    assert [row.verb for row in JournalEntry.objects.order_by("id")] == ["reduce", "halt"]


def test_cancel__is_recorded_for_a_person_and_not_for_a_bot(client: Client) -> None:
    from orders.placing.cancel import request_cancel

    by_bot, by_person = OrderFactory(), OrderFactory()
    request_cancel(by_bot, requested_by="my-bot", reason="")
    assert not JournalEntry.objects.exists()
    client.force_login(User.objects.create_superuser("boss"))
    client.post(
        f"/admin/orders/order/{by_person.pk}/cancel/", {"confirmed": "1", "reason": "wrong"}
    )
    entry = last()
    assert (entry.verb, entry.person, entry.reason) == ("cancel", "boss", "wrong")
    assert entry.subject == f"order:{by_person.pk}"
    assert JournalEntry.objects.filter(verb="cancel").count() == 1


def test_logins__are_recorded_with_their_failures(client: Client) -> None:
    User.objects.create_superuser("boss", password="a-long-password-1")
    client.post("/admin/login/", {"username": "boss", "password": "wrong"})
    client.post("/admin/login/", {"username": "boss", "password": "a-long-password-1"})
    client.post("/admin/logout/")
    rows = JournalEntry.objects.order_by("id").values_list("verb", "person", "source", "subject")
    assert list(rows) == [
        ("fail_login", "boss", "desk", "user:boss"),
        ("login", "boss", "desk", "user:boss"),
        ("logout", "boss", "desk", "user:boss"),
    ]
    assert "a-long-password-1" not in json.dumps(list(JournalEntry.objects.values()), default=str)


def test_forms__are_recorded_with_the_fields_that_changed(
    demo: ExchangeAccount, client: Client
) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    limit = {"account": demo.pk, "currency": "USDT", "max_price_age": 60, "identical_window": 10}
    client.post("/admin/orders/risklimit/add/", {**limit, "max_open_orders": "5"})
    added = last()
    assert (added.verb, added.after["max_open_orders"]) == ("add_risklimit", 5)
    address = f"/admin/orders/risklimit/{added.subject.partition(':')[2]}"
    client.post(f"{address}/change/", {**limit, "max_open_orders": "7"})
    assert (last().before, last().after) == ({"max_open_orders": 5}, {"max_open_orders": 7})
    client.post(f"{address}/delete/", {"post": "yes"})
    assert (last().verb, last().before["max_open_orders"]) == ("delete_risklimit", 7)


def test_a_password_set_by_another_is_recorded_without_it(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    user = User.objects.create_user("anna", password="an-old-password-1")
    secret = "a-very-new-password-2"
    client.post(
        f"/admin/auth/user/{user.pk}/password/",
        {"password1": secret, "password2": secret, "usable_password": "true"},
    )
    entry = JournalEntry.objects.get(verb="change_password")
    assert (entry.subject, entry.person) == ("user:anna", "boss")
    assert secret not in json.dumps(list(JournalEntry.objects.values()), default=str)
