"""Run the journal's duty as a Celery task."""

from __future__ import annotations

from celery import shared_task

from backoffice.people.journal import anchors


@shared_task(name="people.anchor_journal")
def anchor_journal() -> dict[str, int]:
    """Keep the end of the journal outside the database."""
    return {"position": anchors.anchor().position}
