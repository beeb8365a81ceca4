"""Verbs that halt, reduce and resume trading, of one account, of several or of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from backoffice.desk.drafts.notices import say_draft
from backoffice.desk.mixins import ReasonVerb
from backoffice.people import resuming
from backoffice.people.models import ChangeDraft
from backoffice.people.step_up import ask_again
from exchanges import trading_state
from exchanges.models import ExchangeAccount
from exchanges.trading_state import seen_state


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb in words: on its button, above its form, and after it was done."""

    title: Any
    question: Any
    done: Any
    variant: str = "primary"


VERBS = {
    "halt": Verb(
        title=gettext_lazy("Halt trading"),
        question=gettext_lazy(
            "Halt trading? New orders are no longer sent. Open orders stay at the exchange."
        ),
        done=gettext_lazy("Trading halted."),
        variant="danger",
    ),
    "reduce": Verb(
        title=gettext_lazy("Reduce only"),
        question=gettext_lazy(
            "Reduce only? Nothing more is bought. Existing holdings can still be sold for money."
        ),
        done=gettext_lazy("Trading is now reduce-only."),
    ),
    "resume": Verb(
        title=gettext_lazy("Resume trading"),
        question=gettext_lazy(
            "Resume trading? New orders are sent again. Resuming a live account checks its API key"
            " first: withdrawals and transfers must be disabled, and access restricted to listed IP"
            " addresses."
        ),
        done=gettext_lazy("Trading resumed."),
    ),
}


class TradingVerbs(ReasonVerb):
    """Mixin for a ModelAdmin with the verbs halt, reduce and resume."""

    def has_halt_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.halt_trading")

    def has_resume_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("exchanges.resume_trading")

    def switch(
        self,
        request: HttpRequest,
        accounts: list[ExchangeAccount | None],
        *,
        name: str,
        back: str,
    ) -> HttpResponse:
        """Ask for a reason, then switch each account. None is all trading, which has no reduce.

        Only resuming needs a recent proof of the person: nothing that stops ever waits.
        """
        if name == "resume" and (page := ask_again(request)):
            return page

        def do(answer: dict[str, Any]) -> bool:
            for account in accounts:
                _switch(request, account, name=name, reason=answer["reason"])
            return True

        seen = [(account, _seen_name(account), seen_state(account)) for account in accounts]

        return self.ask_then(
            request,
            do,
            back=back,
            template="desk/switch_trading.html",
            title=VERBS[name].title,
            verb=VERBS[name],
            name=name,
            accounts=seen,
        )


def _seen_name(account: ExchangeAccount | None) -> str:
    """Name the form's field with the state that the person saw."""
    return f"seen_{account.pk if account else 'all'}"


def _switch(
    request: HttpRequest, account: ExchangeAccount | None, *, name: str, reason: str
) -> None:
    """Switch one account and show the result, also a refusal or a draft."""
    subject = account.name if account else _("All accounts")
    try:
        answer = _call(
            account,
            name=name,
            reason=reason,
            actor=request.user.get_username(),
            seen=request.POST.get(_seen_name(account)),
        )
    except trading_state.UnsafeAccount as unsafe:
        messages.error(request, str(unsafe))
        return
    except trading_state.NewerHalt as newer:
        answer = str(newer)
    if isinstance(answer, ChangeDraft):
        say_draft(request, answer)
    elif answer:
        messages.error(request, f"{subject}: {answer}")
    else:
        messages.success(request, f"{subject}: {VERBS[name].done}")


def _call(
    account: ExchangeAccount | None, *, name: str, reason: str, actor: str, seen: str | None
) -> str | ChangeDraft | None:
    """Return the problem that kept the service from switching, or the draft that was made."""
    if name == "halt":
        trading_state.halt_trading(account=account, reason=reason, actor=actor)
    elif name == "reduce" and account is not None:
        if not trading_state.reduce_trading(account=account, reason=reason, actor=actor):
            return _("Trading is still halted. Resume it first.")
    else:
        return resuming.resume(account=account, reason=reason, actor=actor, maker=actor, seen=seen)
    return None
