"""The work queue: everything that waits for a person, who works on it, and the way to end it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.exceptions import DisallowedModelAdminLookup
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from backoffice.desk.mixins import ReadOnlyRecords
from backoffice.desk.models import WorkItem, WorkNote
from backoffice.desk.work_queue.work_items import Severity, Waiting, waiting_things
from exchanges import clock
from exchanges.acts import record_act
from orders.models import ReconciliationBreak

_LONGEST_NOTE = 1000


@admin.register(WorkItem)
class WorkQueue(ReadOnlyRecords, ModelAdmin):
    """A page instead of a list of rows: most things that wait have no row of their own."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.queue), name="desk_workitem_changelist"),
            path("do/", wrap(require_POST(self.do)), name="desk_workitem_do"),
        ]

    def queue(self, request: HttpRequest) -> HttpResponse:
        """Show every work item, or only those that are mine, late or without an owner."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if undeclared := set(request.GET) - {"show"}:
            raise DisallowedModelAdminLookup(", ".join(sorted(undeclared)))
        everything = waiting_things(request)
        request.current_app = self.admin_site.name
        chosen = request.GET.get("show", "")
        me = request.user.get_username()
        kept = {
            "mine": [one for one in everything if one.owner == me],
            "free": [one for one in everything if not one.owner],
            "late": [one for one in everything if one.is_late],
        }
        page = {
            **self.admin_site.each_context(request),
            "title": _("Work queue"),
            "opts": self.opts,
            "is_fullwidth": "1",
            "waiting": kept.get(chosen, everything),
            "views": [
                ("", _("All"), len(everything)),
                ("mine", _("Mine"), len(kept["mine"])),
                ("free", _("Without an owner"), len(kept["free"])),
                ("late", _("Late"), len(kept["late"])),
            ],
            "show": chosen,
            "report": report(everything),
            "people": User.objects.filter(is_active=True, is_staff=True).order_by("username"),
            "may_work": self.may_work(request),
            "may_close": request.user.has_perm("orders.close_break"),
            "notes": _notes(everything),
        }
        return TemplateResponse(request, "desk/work_queue.html", page)

    def may_work(self, request: HttpRequest) -> bool:
        return request.user.has_perm("desk.work")

    def do(self, request: HttpRequest) -> HttpResponse:
        """Take, hand over, give back or annotate the chosen items, or close the chosen breaks."""
        waiting = {one.key: one for one in waiting_things(request)}
        keys = request.POST.getlist("item")
        chosen = [waiting[key] for key in keys if key in waiting]
        verb = request.POST.get("do", "")
        back = reverse("admin:desk_workitem_changelist")
        if verb == "close" or request.POST.get("action") == "close_selected":
            return self._close_breaks(request, chosen, back)
        if not self.may_work(request):
            raise PermissionDenied
        if gone := len(keys) - len(chosen):
            messages.info(request, _("No longer waiting: %(count)d") % {"count": gone})
        if not chosen:
            messages.warning(request, _("Select something first."))
            return HttpResponseRedirect(back)
        match verb:
            case "take":
                self._give(request, chosen, request.user)
            case "hand_over":
                person = _person(request.POST.get("person", ""))
                self._give(request, chosen, person)
            case "give_back":
                self._give(request, chosen, None)
            case "note":
                self._note(request, chosen, request.POST.get("note", "").strip())
            case _other:
                raise Http404
        return HttpResponseRedirect(back)

    def _give(self, request: HttpRequest, chosen: list[Waiting], person: Any) -> None:
        """Set the owner of each thing, unless another person took it since the page was shown."""
        actor = request.user.get_username()
        for one in chosen:
            item, _is_new = WorkItem.objects.get_or_create(key=one.key)
            seen = request.POST.get(f"owner:{one.key}", "")
            free = WorkItem.objects.filter(pk=item.pk)
            free = free.filter(owner__username=seen) if seen else free.filter(owner=None)
            taken_at = clock.now() if person else None
            if not free.update(owner=person, taken_at=taken_at):
                text = _("%(name)s: another person was faster.")
                messages.warning(request, text % {"name": one.name})
                continue
            name = person.get_username() if person else ""
            record_act(
                "give_work_item",
                actor=actor,
                subject=one.key,
                before={"owner": seen},
                after={"owner": name},
            )
            text = _("%(name)s: owner is now %(owner)s.") if name else _("%(name)s: given back.")
            messages.success(request, text % {"name": one.name, "owner": name})

    def _note(self, request: HttpRequest, chosen: list[Waiting], text: str) -> None:
        if not text or len(text) > _LONGEST_NOTE:
            messages.error(request, _("A note needs a text of at most 1000 characters."))
            return
        for one in chosen:
            item, _is_new = WorkItem.objects.get_or_create(key=one.key)
            WorkNote.objects.create(item=item, author=request.user.get_username(), text=text)
        messages.success(request, _("Noted on %(count)d") % {"count": len(chosen)})

    def _close_breaks(self, request: HttpRequest, chosen: list[Waiting], back: str) -> HttpResponse:
        """Ask for the resolution and close the chosen breaks, with the breaks' own verb."""
        page: Any = self.admin_site._registry[ReconciliationBreak]  # noqa: SLF001
        if not page.has_close_permission(request):
            raise PermissionDenied
        keys = [one.key for one in chosen]
        pks = [key.partition(":")[2] for key in keys if key.startswith("break:")]
        pks += request.POST.getlist("_selected_action")  # the second step names them so
        rows = page.get_queryset(request).filter(pk__in=[pk for pk in pks if pk.isdecimal()])
        if not rows:
            messages.warning(request, _("Select a break first."))
            return HttpResponseRedirect(back)
        skipped = sum(not key.startswith("break:") for key in keys)
        if skipped:
            text = _("Skipped, because they aren't breaks: %(count)d")
            messages.info(request, text % {"count": skipped})
        answer: HttpResponse = page.ask_then_close(
            request, [*rows.select_related("account")], back=back
        )
        return answer


def _person(name: str) -> User:
    person = User.objects.filter(username=name, is_active=True, is_staff=True).first()
    if person is None:
        raise Http404
    return person


def _notes(waiting: list[Waiting]) -> dict[str, list[WorkNote]]:
    """Return the notes of each thing, with one query."""
    found: dict[str, list[WorkNote]] = defaultdict(list)
    keys = [one.key for one in waiting if one.item]
    for note in WorkNote.objects.filter(item__key__in=keys).select_related("item"):
        found[note.item.key].append(note)
    return dict(found)


def report(waiting: list[Waiting]) -> list[dict[str, Any]]:
    """Count what waits by severity: how many, how many of them late, and the oldest."""
    lines = []
    for severity in Severity:
        rows = [one for one in waiting if one.severity == severity]
        if rows:
            oldest = min(rows, key=lambda one: one.since)
            lines.append(
                {
                    "name": rows[0].severity_name,
                    "severity": severity,
                    "count": len(rows),
                    "late": sum(one.is_late for one in rows),
                    "free": sum(not one.owner for one in rows),
                    "oldest": oldest.age,
                }
            )
    return lines
