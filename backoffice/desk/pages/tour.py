"""Lead a person through the demo in seven steps. A cookie holds the step, and its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

COOKIE = "desk_tour"
DONE = "done"
_KEPT_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its words, its page, and the permission that the page needs."""

    title: Any
    text: Any
    view: str
    query: str = ""
    permission: str = ""

    @property
    def address(self) -> str:
        return f"{reverse(self.view)}{self.query}"


STEPS = (
    Step(
        _("All in one glance"),
        _(
            "The lines at the top say what isn't well, the gravest first. Each account has a card,"
            " and everything here moves by itself."
        ),
        "admin:index",
    ),
    Step(
        _("Find any order"),
        _(
            "Press / and type any ID, or its beginning. Filters, columns and saved views are above"
            " the list. Press j, k and Enter to walk through it."
        ),
        "admin:orders_order_changelist",
        permission="orders.view_order",
    ),
    Step(
        _("An order without an answer"),
        _(
            "Every minute or two the demo loses an answer of the exchange. Wait for such an order"
            " here, open it, and watch the back office find out what became of it."
        ),
        "admin:orders_order_changelist",
        query="?phase=unresolved",
        permission="orders.view_order",
    ),
    Step(
        _("A denial and its reason"),
        _(
            "The strategy reversal is halted. Open one of its orders: the gate names who halted"
            " it, when and why."
        ),
        "admin:orders_order_changelist",
        query="?strategy=reversal",
        permission="orders.view_order",
    ),
    Step(
        _("Everything that waits for a person"),
        _(
            "A break with both sides of its evidence, and an order that needs a second person."
            " Take one, leave a note, and end it."
        ),
        "admin:desk_workitem_changelist",
        permission="desk.view_workitem",
    ),
    Step(
        _("Stop, and see it proven"),
        _(
            "Stop the market maker's quotes on ETHUSDT. The page says before how many orders it is"
            " about, and asks the exchange until none is open."
        ),
        "stop",
        query="?strategy=quoteseth",
        permission="exchanges.halt_trading",
    ),
    Step(
        _("Do the balances add up?"),
        _(
            "Each asset's fills stand beside its balance. The difference has a name, and one that"
            " changes without a transfer means that a fill is missing."
        ),
        "admin:exchanges_balance_tie_out",
        permission="exchanges.view_balance",
    ),
)


def steps_for(user: Any) -> list[Step]:
    return [step for step in STEPS if not step.permission or user.has_perm(step.permission)]


def tour_of(request: HttpRequest) -> dict[str, Any] | None:
    """Return the step to show on this page, None without a tour or after its end."""
    stored = request.COOKIES.get(COOKIE, "1")
    user = getattr(request, "user", None)
    if not settings.DEMO_TOUR or stored == DONE or user is None or not user.is_staff:
        return None
    steps = steps_for(user)
    number = _number(stored, len(steps))
    following = steps[number] if number < len(steps) else None
    return {
        "number": number,
        "count": len(steps),
        "step": steps[number - 1],
        "is_here": request.get_full_path() == steps[number - 1].address,
        "next": following,
        "next_number": number + 1,
        "previous_number": number - 1,
    }


def _number(text: str, count: int) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 3 else 1
    return min(max(number, 1), count)


def go_on(request: HttpRequest) -> HttpResponse:
    """Remember the step that the person chose and lead to its page, or end the tour."""
    chosen = request.POST.get("step", "")
    if chosen == DONE:
        answer = HttpResponseRedirect(reverse("admin:index"))
    else:
        steps = steps_for(request.user)
        number = _number(chosen, len(steps))
        chosen, answer = str(number), HttpResponseRedirect(steps[number - 1].address)
    answer.set_cookie(
        COOKIE,
        chosen,
        max_age=_KEPT_SECONDS,
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )
    return answer


def admin_go_on(request: HttpRequest) -> HttpResponse:
    """Let the people who may use the admin go on."""
    return admin.site.admin_view(require_POST(go_on))(request)
