"""Notice that the database has gone back in time, and trust it again once its past is read.

A database that was restored, or failed over and lost its last commits, lacks orders that the
exchange has. Their intents may come again, and Binance accepts a client order id again once its
order is filled, so a blind send would trade twice.

The database's row (`BookIdentity`) and Redis hold the same token, and Redis holds the newest
claims. Every claim compares both (`orders.gate`), whichever process, thread or child makes it. If
they differ, the book is distrusted, once for all processes, with a new token. From then on nothing
is sent on a symbol until a reading of its history that began after the fence is complete. The fence
is the time that a lost request may still need to be executed and to become visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from uuid import uuid4

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q

from exchanges import clock
from exchanges.errors import NotSent
from exchanges.limits import book_memory
from exchanges.limits.book_memory import Memory, Noted
from orders.models import BookIdentity, ExchangeOrder

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 0.5
# The clocks of the hosts that claimed, and the exchange's.
_CLOCKS_DIFFER = timedelta(minutes=1)
# Of a book that has no claim of its own left, so much is looked at.
_LONGEST_LOSS = timedelta(days=7)


def agrees(memory: Memory, token: str, missing_claims: int) -> bool:
    """Return whether the database is the book that is remembered outside.

    `token` is the database's, and `missing_claims` counts the remembered claims that it lacks. A
    private memory doesn't hear of new tokens, so only its claims count.
    """
    if missing_claims or not memory.token or not token:
        return False
    return memory.is_private or memory.token == token


def distrusted_at() -> datetime | None:
    """Return when the book was last distrusted. None if it never was."""
    return BookIdentity.objects.values_list("distrusted_at", flat=True).first()


def trusted_from(distrusted: datetime) -> datetime:
    """Return the moment from which a reading shows every order from before `distrusted`."""
    return distrusted + timedelta(
        milliseconds=settings.EXCHANGE_RECV_WINDOW_MS
        + settings.EXCHANGE_ENGINE_TIMEOUT_MS
        + settings.EXCHANGE_READ_LAG_MS
    )


def lost_since(distrusted: datetime) -> datetime:
    """Return the moment from which on orders may be missing in a book that was distrusted.

    The newest claim that the database still has is older than every claim that it lost.
    """
    claims = ExchangeOrder.objects.filter(
        request_timestamp_ms__isnull=False, sent_at__lt=distrusted
    ).order_by("-id")
    newest = claims.values_list("sent_at", flat=True).first()
    return distrusted - _LONGEST_LOSS if newest is None else newest - _CLOCKS_DIFFER


def note_claim(memory: Memory, account_id: int, client_order_id: str) -> None:
    """Remember a committed claim outside the database, before its request leaves.

    Raises `NotSent` if the request must not leave, because the book has become another meanwhile.
    """
    private = book_memory.is_private()
    noted = book_memory.note(memory, book_memory.claim_name(account_id, client_order_id))
    if noted is Noted.DONE:
        return
    if noted is Noted.KNOWN:
        _distrust(f"{client_order_id} was claimed before", private=private)
    raise NotSent("the book went back in time during the claim", retry_after=_RETRY_SECONDS)


def settle() -> None:
    """Distrust the book, unless it is new or another process has done so.

    Raises `NotSent` in a worker while Redis is away.
    """
    private = book_memory.is_private()
    with transaction.atomic():
        book = _locked_book()
        memory = book_memory.read(private=private)
        missing = _missing(memory.claims)
        if agrees(memory, _text(book), len(missing)):
            return
        if _is_new(book, memory):
            _begin_again(book, private=memory.is_private)
            log.info("book_begun", token=_text(book))
        else:
            _begin_again(
                book, private=memory.is_private, reason=_reason(memory, _text(book), missing)
            )


def doubt(client_order_id: str) -> None:
    """Distrust the book because it lacks this order of ours, unless it was ever distrusted.

    The exchange remembers our orders even if the database and Redis have both lost them. Another
    installation on the same account has such orders too, so they count only once.
    """
    if distrusted_at() is None:
        _distrust(
            f"the exchange has {client_order_id}, and the book doesn't",
            private=book_memory.is_private(),
        )


def _distrust(reason: str, *, private: bool) -> None:
    with transaction.atomic():
        _begin_again(_locked_book(), private=private, reason=reason)


def _begin_again(book: BookIdentity, *, private: bool, reason: str = "") -> None:
    """Give the book a new token, store it in Redis, and with a reason also distrust the book.

    Redis gets it before the commit, and answers within a fraction of a second. If one of the two
    fails, the tokens differ, and the next claim settles that.
    """
    book.token, book.updated_at = uuid4(), clock.now()
    if reason:
        book.distrusted_at, book.reason = book.updated_at, reason
        log.error("book_distrusted", reason=reason, trusted_from=str(trusted_from(clock.now())))
    book.save()
    with suppress(NotSent):
        book_memory.begin_again(str(book.token), private=private)


def _locked_book() -> BookIdentity:
    book, _ = BookIdentity.objects.select_for_update().get_or_create(id=BookIdentity.ROW)
    return book


def _is_new(book: BookIdentity, memory: Memory) -> bool:
    """Return whether nothing was ever sent from this database, and nothing is remembered.

    A private memory may remember the orders of a test whose rows are gone: rolled back or flushed.
    """
    is_forgotten = not memory.token or (memory.is_private and book.token is None)
    return is_forgotten and not ExchangeOrder.objects.exists()


def _missing(names: Sequence[str]) -> list[str]:
    """Return the claims that the database lacks."""
    if not names:
        return []
    claims = [book_memory.split_claim_name(name) for name in names]
    wanted = reduce(or_, (Q(account_id=a, client_order_id=c) for a, c in claims))
    found = set(ExchangeOrder.objects.filter(wanted).values_list("account_id", "client_order_id"))
    return [client_order_id for a, client_order_id in claims if (a, client_order_id) not in found]


def _reason(memory: Memory, token: str, missing: Sequence[str]) -> str:
    if missing:
        return f"{len(missing)} of the newest claims are missing, among them {missing[0]}"
    if not memory.token:
        return "nothing is remembered of it outside the database"
    return f"the database is book {token or 'none'}, and {memory.token} is remembered"


def _text(book: BookIdentity) -> str:
    return str(book.token or "")
