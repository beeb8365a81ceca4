"""Writes that go together: all or none, exact, and committed when they say so."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from psycopg import pq

from exchanges.db import batch_writes
from exchanges.db.batch_writes import Insert, Update
from exchanges.models import Balance, ExchangeAccount, Reservation
from orders.models import OrderEvent
from tests.factories import BalanceFactory, ExchangeAccountFactory, OrderFactory

pytestmark = pytest.mark.django_db(transaction=True)
D = Decimal


@pytest.fixture
def owner() -> ExchangeAccount:
    owner = ExchangeAccountFactory()
    BalanceFactory(account=owner, asset="USDT", free=D(100))
    return owner


def reservation(owner: ExchangeAccount, amount: str, reference: str = "bo-1") -> Reservation:
    return Reservation(account=owner, asset="USDT", reference=reference, amount=D(amount))


def freed(owner: ExchangeAccount, of: str, to: str) -> Update:
    return Update(Balance, {"account_id": owner.pk, "asset": of}, {"free": D(to)})


def references() -> list[str]:
    return list(Reservation.objects.order_by("id").values_list("reference", flat=True))


def test_write__nothing_after_a_first_write_that_found_no_row(owner: ExchangeAccount) -> None:
    with transaction.atomic():
        assert batch_writes.write(freed(owner, "BTC", "7"), Insert([reservation(owner, "1")])) == [
            0,
            0,
        ]
        assert batch_writes.write(freed(owner, "USDT", "7"), Insert([reservation(owner, "1")])) == [
            1,
            1,
        ]
    assert references() == ["bo-1"]
    assert Balance.objects.get().free == 7


def test_write__a_write_follows_the_one_that_it_names(owner: ExchangeAccount) -> None:
    first, second = reservation(owner, "1"), reservation(owner, "2", "bo-2")
    with transaction.atomic():
        written = batch_writes.write(
            freed(owner, "USDT", "7"),
            freed(owner, "BTC", "7"),
            Insert([first], only_if_wrote=1),
            Insert([second], only_if_wrote=0),
        )
    assert written == [1, 0, 0, 1]
    assert references() == ["bo-2"]


def test_write__keeps_every_digit_and_character(owner: ExchangeAccount) -> None:
    order = OrderFactory(account=owner)
    at = datetime(2026, 3, 29, 1, 59, 59, 999999, tzinfo=UTC)
    details: dict[str, Any] = {
        "reason": 'it\'s "100%" \\ {0} $1 – длинный\n',
        "list": [1, None, True, 2**70],
        "id": order.pk.hex,
    }
    event = OrderEvent(order=order, event_type="REPORT", at=at, actor="o'neill", details=details)
    held = reservation(owner, "12345678901234567890.123456789012345678")
    with transaction.atomic():
        assert batch_writes.write(Insert([held]), Insert([event])) == [1, 1]
    stored = OrderEvent.objects.get(pk=event.pk)
    assert (stored.at, stored.actor, stored.details) == (at, "o'neill", details)
    assert Reservation.objects.get(pk=held.pk).amount == D(
        "12345678901234567890.123456789012345678"
    )


def test_write__null_is_found_and_written(owner: ExchangeAccount) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with transaction.atomic():
        batch_writes.write(Insert([reservation(owner, "1"), reservation(owner, "2", "bo-2")]))
        assert batch_writes.write(
            Update(Reservation, {"reference": "bo-1", "due_at": None}, {"due_at": at})
        ) == [1]
        assert batch_writes.write(
            Update(Reservation, {"reference": "bo-1", "due_at": None}, {"due_at": at})
        ) == [0]
        assert batch_writes.write(
            Update(Reservation, {"reference": "bo-1", "due_at": at}, {"due_at": None})
        ) == [1]


def test_write__several_rows_at_once(owner: ExchangeAccount) -> None:
    with transaction.atomic():
        assert batch_writes.write(
            Insert([reservation(owner, str(n), f"bo-{n}") for n in range(1, 8)])
        ) == [7]
    assert references() == [f"bo-{n}" for n in range(1, 8)]


def test_write__an_error_after_it_undoes_it(owner: ExchangeAccount) -> None:
    @transaction.atomic
    def fail() -> None:
        batch_writes.write(Insert([reservation(owner, "1")]))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert references() == []
    assert connection.get_autocommit()


def test_write__a_refusal_of_the_database_undoes_the_whole_chain(owner: ExchangeAccount) -> None:
    twice = Balance(
        account=owner, asset="USDT", free=D(1), updated_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    for then_commit in (False, True):
        with pytest.raises(IntegrityError), transaction.atomic():
            batch_writes.write(
                Insert([reservation(owner, "1")]), Insert([twice]), then_commit=then_commit
            )
        assert references() == []
    with transaction.atomic():
        batch_writes.write(Insert([reservation(owner, "1")]), then_commit=True)
    assert references() == ["bo-1"]


def test_write__the_last_one_commits_only_the_outermost_transaction(owner: ExchangeAccount) -> None:
    @transaction.atomic
    def fail() -> None:
        with transaction.atomic():
            batch_writes.write(Insert([reservation(owner, "1")]), then_commit=True)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert references() == []


def test_write__is_one_message_with_its_commit(owner: ExchangeAccount) -> None:
    def write() -> list[str]:
        with watched_messages() as sent, transaction.atomic():
            batch_writes.write(
                freed(owner, "USDT", "7"), Insert([reservation(owner, "1")]), then_commit=True
            )
        return sent

    prepared, again = write(), write()
    begin, commit = ["Parse BEGIN", "Bind", "Execute"], ["Parse COMMIT", "Bind", "Execute"]
    assert prepared == [*begin, "Parse WITH", "Bind", "Execute", *commit, "Sync"]
    assert again == [*begin, "Bind", "Execute", *commit, "Sync"]
    assert len(references()) == 2
    assert connection.get_autocommit()


@contextmanager
def watched_messages() -> Iterator[list[str]]:
    """Collect the protocol messages that we send, without the descriptions that libpq asks for."""
    connection.ensure_connection()
    pgconn = connection.connection.pgconn
    sent: list[str] = []
    with tempfile.TemporaryFile("w+") as trace:
        pgconn.trace(trace.fileno())
        pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        try:
            yield sent
        finally:
            pgconn.untrace()
            trace.seek(0)
            sent += [message for line in trace if (message := message_of(line))]


def message_of(line: str) -> str:
    """Read `F  32  Parse  "name" "BEGIN" 0` as `Parse BEGIN`; an answer or description is empty."""
    direction, _, name, *rest = line.split(maxsplit=3)
    if direction != "F" or name == "Describe":
        return ""
    return f"Parse {rest[0].split(chr(34))[3].split()[0]}" if name == "Parse" else name
