"""Store how each person likes the lists: the columns they chose, and the views they saved."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock


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
