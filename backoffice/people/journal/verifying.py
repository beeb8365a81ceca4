"""Check the chain of the journal, and compare it with its anchors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from backoffice.people.journal.anchors import Anchor
from backoffice.people.journal.chain import GENESIS, digest
from backoffice.people.models import JournalEntry, JournalHead

# Moved rows are looked for among so many bad rows. More of them are named as edited.
_MOST_CANDIDATES = 200


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something wrong with the journal, at this number of the chain."""

    position: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"entry {self.position}: {self.kind}: {self.text}"


@dataclass(slots=True)
class Result:
    """The answer of a check: how much was checked, and everything that was found."""

    entries: int = 0
    anchors: int = 0
    head_hash: str = GENESIS
    findings: list[Finding] = field(default_factory=list)


def verify(anchors: Iterable[Anchor] = ()) -> Result:
    """Check every row, the links between them, the end, and the anchors.

    It takes no lock, because a halt must not wait for it. Acts that come meanwhile do no harm: the
    end is read before the rows, and again after them.
    """
    wanted = {(anchor.position, anchor.hash) for anchor in anchors}
    head = _head()
    hashes: dict[int, str] = dict.fromkeys((position for position, _hash in wanted), "")
    hashes[head.position if head else 0] = GENESIS
    result = Result(anchors=len(wanted))
    edited: list[JournalEntry] = []
    missing: list[int] = []
    last = 0
    for finding, entry in _walk(result, missing):
        if finding is not None:
            result.findings.append(finding)
        if digest(entry) != entry.hash:
            edited.append(entry)
        if entry.pk in hashes:
            hashes[entry.pk] = entry.hash
        last = entry.pk
    result.findings += _edits(edited, missing)
    result.findings += _end(head, last, hashes)
    result.findings += _anchors(wanted, hashes)
    result.findings.sort()
    return result


def _head() -> JournalHead | None:
    return JournalHead.objects.filter(pk=JournalHead.ROW).first()


def _walk(result: Result, missing: list[int]) -> Iterator[tuple[Finding | None, JournalEntry]]:
    """Yield each row with the finding about its link to the row before."""
    expected, previous = 1, GENESIS
    for entry in JournalEntry.objects.order_by("id").iterator(chunk_size=2000):
        result.entries += 1
        finding = None
        if entry.pk != expected:
            missing += range(expected, min(entry.pk, expected + _MOST_CANDIDATES))
            names = str(expected) if entry.pk == expected + 1 else f"{expected} to {entry.pk - 1}"
            finding = Finding(expected, "removed", f"missing: {names}")
        elif entry.previous_hash != previous:
            finding = Finding(
                entry.pk, "broken link", "does not follow the entry before: inserted or reordered"
            )
        yield finding, entry
        expected, previous = entry.pk + 1, entry.hash
    result.head_hash = previous


def _edits(edited: list[JournalEntry], missing: list[int]) -> Iterator[Finding]:
    """Distinguish rows that were moved to another number from rows whose content was changed."""
    numbers = [*(entry.pk for entry in edited), *missing][:_MOST_CANDIDATES]
    # A row that was inserted before them shifts all later rows by one.
    numbers += [entry.pk - 1 for entry in edited[:_MOST_CANDIDATES]]
    for entry in edited:
        origin = next((n for n in numbers if digest(entry, id=n) == entry.hash), None)
        if origin is None:
            yield Finding(entry.pk, "edited", "its content does not match its hash")
        else:
            yield Finding(entry.pk, "reordered", f"it was entry {origin}")


def _end(head: JournalHead | None, last: int, hashes: dict[int, str]) -> Iterator[Finding]:
    """Compare the last row with the head, which every act moves."""
    if head is None:
        if last:
            yield Finding(last, "end removed", "the row that holds the end of the chain is missing")
        return
    if head.position > last:
        yield Finding(last + 1, "tail cut", f"missing: {last + 1} to {head.position}")
    elif hashes[head.position] != head.hash:
        yield Finding(head.position, "end changed", "its hash is not the one at the chain's end")
    now = _head() or head
    if last > now.position:
        yield Finding(now.position + 1, "inserted", "it stands behind the end of the chain")


def _anchors(wanted: set[tuple[int, str]], hashes: dict[int, str]) -> Iterator[Finding]:
    """Compare each anchor with the row of its number."""
    for position, anchored in sorted(wanted):
        found = hashes[position] or (GENESIS if position == 0 else "")
        if not found:
            yield Finding(position, "tail cut", "an anchor names it, but it is missing")
        elif found != anchored:
            yield Finding(position, "rebuilt", "its hash is not the one that was anchored")
