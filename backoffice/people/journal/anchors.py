"""Keep the journal's end outside the database, so that a rebuilt chain is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import structlog
from django.conf import settings

from backoffice.people.journal.chain import GENESIS, time_text
from backoffice.people.models import JournalHead
from exchanges import clock

log = structlog.get_logger(__name__)

_WEBHOOK_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Anchor:
    """The end of the chain at a time."""

    position: int
    hash: str
    at: str = ""


def anchor() -> Anchor:
    """Log the end of the chain, append it to the file and send it to the webhook, if these are set.

    A file or a webhook that fails is logged and stops nothing: the next minute tries again.
    """
    head = JournalHead.objects.filter(pk=JournalHead.ROW).first() or JournalHead()
    found = Anchor(head.position, head.hash or GENESIS, time_text(clock.now()))
    log.info("journal_anchored", **asdict(found))
    text = json.dumps(asdict(found))
    for place, keep in (("file", _append), ("webhook", _send)):
        try:
            keep(text)
        except OSError as error:
            log.error("journal_not_anchored", place=place, error=type(error).__name__)
    return found


def _append(text: str) -> None:
    if not settings.JOURNAL_ANCHOR_FILE:
        return
    file = Path(settings.JOURNAL_ANCHOR_FILE)
    file.touch(mode=0o600)
    with file.open("a") as opened:
        opened.write(f"{text}\n")


def _send(text: str) -> None:
    if not settings.JOURNAL_ANCHOR_URL:
        return
    # The settings accept http and https only.
    request = Request(  # noqa: S310  # nosec B310
        settings.JOURNAL_ANCHOR_URL,
        data=text.encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urlopen(request, timeout=_WEBHOOK_TIMEOUT_SECONDS):  # noqa: S310  # nosec B310
        pass


def read_anchors(file: Path) -> Iterator[Anchor]:
    """Read the anchors of a file, one JSON object a line, or those in a log of JSON lines."""
    with file.open(errors="replace") as lines:
        for line in lines:
            start = line.find("{")
            try:
                found = json.loads(line[start:]) if start >= 0 else {}
            except ValueError:
                continue
            if isinstance(found, dict) and found.get("event", "journal_anchored") == (
                "journal_anchored"
            ):
                position, digest = found.get("position"), found.get("hash")
                if isinstance(position, int) and isinstance(digest, str):
                    yield Anchor(position, digest, str(found.get("at", "")))
