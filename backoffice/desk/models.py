"""Store how each person likes the lists, who works on what waits, and verbs for whole lists."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.models import ExchangeAccount


class SavedView(models.Model):
    """Filters and columns of one list, under a name, for one person.

    The row without a name holds the columns that the list opens with.
    """

    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    page = models.CharField(max_length=64, help_text="The list's model, such as orders.order.")
    name = models.CharField(_("name"), max_length=60, blank=True, default="")
    query = models.TextField(blank=True, default="", help_text="The filters, as in the address.")
    columns = models.JSONField(default=list, help_text="Names of columns. Empty: the usual ones.")

    class Meta:
        default_permissions = ()  # a person sees and changes their own, and no one else's
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["person", "page", "name"], name="saved_view_unique_name"
            )
        ]

    def __str__(self) -> str:
        return self.name or self.page


class WorkItem(models.Model):
    """The person who works on something that waits for one. The key names it, such as `break:12`.

    The thing itself decides whether it still waits. This row only holds its owner.
    """

    key = models.CharField(max_length=80, unique=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    taken_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("work item")
        verbose_name_plural = _("work queue")
        default_permissions = ("view",)
        permissions: ClassVar = [("work", _("Can take, hand over and note work items"))]

    def __str__(self) -> str:
        return self.key


class WorkNote(models.Model):
    """A note on a work item, kept after it is done."""

    item = models.ForeignKey(WorkItem, on_delete=models.CASCADE, related_name="notes")
    at = models.DateTimeField(default=clock.now)
    author = models.CharField(max_length=150)
    text = models.TextField(max_length=1000)

    class Meta:
        default_permissions = ()
        ordering = ("at", "id")

    def __str__(self) -> str:
        return self.text


class BulkRun(models.Model):
    """A verb for all rows of a list, as a person gave it. `backoffice.desk.bulk` does it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    actor = models.CharField(max_length=150)
    verb = models.CharField(max_length=32)
    query = models.TextField(blank=True, default="", help_text="The filters, as in the address.")
    reason = models.TextField()
    resolution = models.CharField(max_length=64, blank=True, default="")
    language = models.CharField(max_length=16, blank=True, default="")
    # Where the person sat, for the journal.
    address = models.CharField(max_length=64, blank=True, default="")
    session = models.CharField(max_length=12, blank=True, default="")
    total = models.PositiveIntegerField(default=0)
    made_at = models.DateTimeField(default=clock.now)
    announced_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()  # a person sees their own
        indexes: ClassVar = [
            # runs.unfinished
            models.Index(
                fields=["made_at"],
                name="bulk_run_unfinished",
                condition=models.Q(finished_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.made_at:%Y-%m-%d %H:%M:%S}"


class Outcome(models.TextChoices):
    """Name the results of one row."""

    DONE = "done", _("done")
    WAITS = "waits", _("not yet")
    SKIPPED = "skipped", _("skipped")
    FAILED = "failed", _("failed")


class BulkLine(models.Model):
    """One row of a run, with its result. An empty outcome waits for its turn."""

    run = models.ForeignKey(BulkRun, on_delete=models.CASCADE, related_name="lines", db_index=False)
    position = models.PositiveIntegerField()
    target = models.CharField(max_length=36)
    name = models.CharField(max_length=200)
    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    outcome = models.CharField(max_length=8, choices=Outcome, blank=True, default="")
    text = models.TextField(blank=True, default="")
    at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ("run", "position")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "position"], name="bulk_line_unique_position")
        ]
        indexes: ClassVar = [
            # runs: the next lines of a run, and the count of each result
            models.Index(fields=["run", "outcome", "position"], name="bulk_line_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.position} {self.name}"

    @property
    def color(self) -> str:
        colors = {Outcome.DONE: "success", Outcome.WAITS: "info", Outcome.FAILED: "danger"}
        return colors.get(Outcome(self.outcome), "warning")
