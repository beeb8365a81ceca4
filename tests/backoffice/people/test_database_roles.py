"""The rights of the database's roles, tried as each role."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from pytest_django.fixtures import Settings

from backoffice.people import drafts
from backoffice.people.database_roles import APPEND_ONLY, APPLICATION, READER, ROLES, WEB
from backoffice.people.journal.verifying import verify
from backoffice.people.models import ChangeDraft, JournalEntry
from exchanges import trading_state
from exchanges.models import ExchangeAccount
from orders.models import Fill, Order, OrderEvent
from tests.factories import FillFactory, OrderEventFactory, OrderFactory
from tests.harness.simulator import Simulator
from tests.steps import submit

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _roles(settings: Settings) -> None:
    for role in ("APPLICATION", "WEB", "READER"):
        setattr(settings, f"DATABASE_{role}_PASSWORD", f"it's {role}")
    call_command("make_database_roles", stdout=StringIO())


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {role}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


def denied(role: str, statement: str) -> None:
    with (
        acting_as(role),
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_no_role__changes_the_record_or_disables_its_triggers(role: str, table: str) -> None:
    denied(role, f"UPDATE {table} SET id = id + 1")
    denied(role, f"DELETE FROM {table}")
    denied(role, f"TRUNCATE {table} CASCADE")
    denied(role, f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    denied(role, "CREATE TABLE of_mine (id int)")


def test_application__places_records_and_halts(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    simulator.control.set_price("BTCUSDT", "60000")
    with acting_as(APPLICATION):
        assert submit().status == "NEW"
    fill, event, order = FillFactory(), OrderEventFactory(), OrderFactory()
    with acting_as(APPLICATION):
        trading_state.halt_trading(account=account, reason="wild", actor="exchange")
        trading_state.halt_trading(account=None, reason="wild", actor="exchange")
        Fill.objects.filter(pk=fill.pk).update(order=order)
        OrderEvent.objects.filter(pk=event.pk).update(order=order)
    assert JournalEntry.objects.count() == 2
    assert verify().findings == []


def test_application__gives_nobody_a_right() -> None:
    for statement in (
        "UPDATE auth_user SET is_superuser = true",
        "INSERT INTO people_accountgrant (account_id, created_at) VALUES (1, now())",
        "DELETE FROM orders_risklimit",
        "DELETE FROM orders_reviewrule",
        "SELECT * FROM otp_totp_totpdevice",
        "SELECT * FROM people_personsession",
    ):
        denied(APPLICATION, statement)


def test_web__signs_in_and_sets_limits() -> None:
    with acting_as(WEB):
        user = User.objects.create_user("anna", password="a-long-password-1")
        user.is_active = False
        user.save()
        trading_state.halt_trading(account=None, reason="wild", actor="anna")


def test_reader__reads_the_book_and_no_password() -> None:
    OrderFactory()
    with acting_as(READER):
        assert Order.objects.count() == 1
    denied(READER, "SELECT password FROM auth_user")
    denied(READER, "UPDATE orders_order SET status = 'FILLED'")
    denied(
        READER, "INSERT INTO exchanges_lease (name, holder, expires_at) VALUES ('a', 'b', now())"
    )


def test_make_database_roles__needs_a_password(settings: Settings) -> None:
    for role in ("APPLICATION", "WEB", "READER"):
        setattr(settings, f"DATABASE_{role}_PASSWORD", "")
    with pytest.raises(CommandError, match="none of the DATABASE_"):
        call_command("make_database_roles", stdout=StringIO())


def test_application__asks_for_a_change_and_publishes_none() -> None:
    with acting_as(APPLICATION):
        draft = drafts.make(
            ChangeDraft(kind="resume", subject="everything", maker="anna", reason="calm again")
        )
    denied(APPLICATION, "UPDATE people_changedraft SET state = 'published'")
    denied(APPLICATION, "DELETE FROM people_changedraft")
    denied(READER, "SELECT * FROM people_changedraft")
    with acting_as(WEB):
        drafts.reject(draft, actor="carl", reason="not yet")
