"""Ask before a verb is applied to all rows of a list, and show its progress and results."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _

from backoffice.desk.bulk import runs
from backoffice.desk.bulk.verbs import VERBS, BulkVerb
from backoffice.desk.mixins import ReasonForm, ReasonVerb
from backoffice.desk.models import BulkRun, Outcome
from backoffice.people.grants import narrow

PAGE = 100


class WholeList(ReasonVerb):
    """Mixin for a list with exports: its verbs for all rows that match, beyond one page."""

    admin_site: Any
    opts: Any
    _chosen_rows: Any
    #: Names of the verbs, each with the form that asks for it.
    whole_list: ClassVar[dict[str, type[ReasonForm]]] = {}

    def get_urls(self) -> list[URLPattern]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_all"
        wrap = self.admin_site.admin_view
        own = [path("all/<slug:verb>/", wrap(self.ask_for_all), name=name)]
        return own + super().get_urls()  # type: ignore[misc, no-any-return]

    def whole_list_tools(self, request: HttpRequest, query: str) -> list[tuple[Any, str]]:
        """Return title and address of each verb that the person has."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_all"
        mine = [VERBS[verb] for verb in self.whole_list]
        return [
            (verb.title, f"{reverse(name, args=[verb.name])}?{query}")
            for verb in mine
            if request.user.has_perm(verb.permission)
        ]

    def ask_for_all(self, request: HttpRequest, verb: str) -> HttpResponse:
        """Show the number of affected rows, ask for the reason, and begin."""
        if verb not in self.whole_list:
            raise Http404
        chosen = VERBS[verb]
        if not request.user.has_perm(chosen.permission):
            raise PermissionDenied
        rows = self._chosen_rows(request)
        if isinstance(rows, HttpResponse):
            return rows
        back = f"{reverse(f'admin:{chosen.page}_changelist')}?{request.GET.urlencode()}"
        counted = rows.order_by()[: runs.MAX_ROWS + 1].aggregate(
            total=Count("pk"), skipped=Count("pk", filter=chosen.to_skip)
        )
        if problem := _problem(counted["total"]):
            messages.error(request, problem)
            return HttpResponseRedirect(back)
        key = _key(request)
        return self._ask(request, chosen, rows, counted, key=key, back=back)

    def _ask(
        self,
        request: HttpRequest,
        verb: BulkVerb,
        rows: Any,
        counted: dict[str, int],
        *,
        key: UUID,
        back: str,
    ) -> HttpResponse:
        form = self.whole_list[verb.name](request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            given = form.cleaned_data
            resolution = given.get("resolution", "")
            run = runs.start(
                request, verb, rows, key=key, reason=given["reason"], resolution=resolution
            )
            return HttpResponseRedirect(reverse("bulk_run", args=[run.pk]))
        return self.ask_then(
            request,
            lambda _answer: False,
            back=back,
            template="desk/bulk/ask.html",
            form_class=self.whole_list[verb.name],
            title=str(verb.title),
            question=verb.question,
            counted=counted,
            skipped_text=verb.skipped,
            key=key,
            button_variant="danger" if verb.announce else "primary",
        )


def _problem(total: int) -> str:
    if not total:
        return _("No row matches these filters.")
    if total > runs.MAX_ROWS:
        text = _("More than %(count)d rows match. Narrow the filters.")
        return text % {"count": runs.MAX_ROWS}
    return ""


def _key(request: HttpRequest) -> UUID:
    try:
        return UUID(request.POST.get("key", ""))
    except ValueError:
        return uuid4()


def bulk_run(request: HttpRequest, key: UUID) -> HttpResponse:
    """Show a run to the person who began it: how far it is, and a line for each row."""
    run = get_object_or_404(BulkRun, pk=key)
    if run.person_id != request.user.pk and not getattr(request.user, "is_superuser", False):
        raise Http404
    verb = VERBS[run.verb]
    show = request.GET.get("show", "")
    page = request.GET.get("p", "1")
    number = min(max(int(page), 1), 10_000) if page.isascii() and page.isdecimal() else 1
    rows = narrow(run.lines.order_by("position"), request.user)
    if show in Outcome.values:
        rows = rows.filter(outcome=show)
    first = (number - 1) * PAGE
    lines = list(rows[first : first + PAGE + 1])
    counts = dict(run.lines.order_by().values_list("outcome").annotate(Count("pk")))
    left = counts.pop("", 0)
    context = {
        **admin.site.each_context(request),
        "title": str(verb.title),
        "run": run,
        "done": run.total - left,
        "counts": [(each, each.label, counts.get(each, 0)) for each in Outcome],
        "show": show,
        "lines": lines[:PAGE],
        "row_page": f"admin:{verb.page}_change",
        "previous": number - 1,
        "next": number + 1 if len(lines) > PAGE else 0,
        "list": f"{reverse(f'admin:{verb.page}_changelist')}?{run.query}",
    }
    request.current_app = admin.site.name
    return render(request, "desk/bulk/run.html", context)


def admin_bulk_run(request: HttpRequest, key: UUID) -> HttpResponse:
    """Show a run to the people who may use the admin."""
    return admin.site.admin_view(bulk_run)(request, key=key)
