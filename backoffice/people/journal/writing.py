"""Append acts to the journal."""

from __future__ import annotations

from django.db import transaction
from django.db.models import Max

from backoffice.people.journal.chain import GENESIS, clean, digest, plain_json
from backoffice.people.models import JournalEntry, JournalHead
from exchanges import clock
from exchanges.acts import Act, Origin


def write_entry(act: Act, origin: Origin) -> JournalEntry:
    """Append an act to the chain, in the transaction of the act if one is open.

    The lock on the head's row is kept until the commit, so each entry knows the one before.
    """
    with transaction.atomic():
        head = _locked_head()
        # A row behind the end is not ours. It must not stop a halt, and `verify_journal` names it.
        last = JournalEntry.objects.aggregate(last=Max("id"))["last"] or 0
        entry = _entry(act, origin, max(head.position, last) + 1, head.hash)
        entry.save(force_insert=True)
        head.position, head.hash = entry.pk, entry.hash
        head.save(update_fields=["position", "hash"])
    return entry


def _locked_head() -> JournalHead:
    head = JournalHead.objects.select_for_update().filter(pk=JournalHead.ROW).first()
    if head is None:
        last = JournalEntry.objects.order_by("-id").first()
        JournalHead.objects.bulk_create(
            [JournalHead(position=last.pk if last else 0, hash=last.hash if last else GENESIS)],
            ignore_conflicts=True,
        )
        head = JournalHead.objects.select_for_update().get(pk=JournalHead.ROW)
    return head


def _entry(act: Act, origin: Origin, position: int, previous_hash: str) -> JournalEntry:
    subject = clean(act.subject, 200)
    touched = {subject, *(clean(name, 200) for name in act.touched)}
    if act.account:
        touched.add(f"account:{clean(act.account, 64)}")
    entry = JournalEntry(
        id=position,
        at=clock.now(),
        source=origin.source.value,
        person=clean(origin.person, 150),
        address=clean(origin.address, 64),
        session=clean(origin.session, 16),
        verb=clean(act.verb, 64),
        account=clean(act.account, 64),
        subject=subject,
        touched=sorted(touched),
        reason=clean(act.reason),
        before=plain_json(act.before),
        after=plain_json(act.after),
        previous_hash=previous_hash,
    )
    entry.hash = digest(entry)
    return entry
