"""Keep a change as a draft until a second person publishes it, where a rule asks for one.

A draft does nothing by itself. Publishing applies it through the code that makes such a change at
once, in one transaction with the journal. Nothing that tightens or stops becomes a draft.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from backoffice.people.draft_models import DraftState
from backoffice.people.four_eyes import may_check
from backoffice.people.grants import account_ids, has_every_account
from backoffice.people.models import ChangeDraft
from exchanges import clock
from exchanges.acts import record_act
from exchanges.models import ExchangeAccount
from orders.models import ReviewKind, ReviewRule


class NotPublished(ValueError):
    """The draft did not take effect. The text says why."""


class Overtaken(NotPublished):
    """The record has changed since the draft was made, so its difference is no longer true."""


def rule_for(account: ExchangeAccount | None, *kinds: ReviewKind) -> ReviewRule | None:
    """Return a rule that asks for a second person. Without an account the act is about all of
    them, so a rule for any account asks.
    """
    rules = ReviewRule.objects.filter(kind__in=kinds)
    if account is not None:
        rules = rules.filter(Q(account=None) | Q(account=account))
    return rules.order_by("pk").first()


def make(draft: ChangeDraft, *, actor: str = "") -> ChangeDraft:
    """Store a draft. `actor` is the name for the journal, by default the maker's."""
    draft.made_at = clock.now()
    draft.expires_at = draft.made_at + timedelta(seconds=settings.DRAFT_SECONDS)
    with transaction.atomic():
        draft.save(force_insert=True)
        _record(
            "make_draft",
            draft,
            actor=actor or draft.maker,
            reason=draft.reason,
            before=draft.before,
            after=draft.after,
        )
    return draft


def publish(draft: ChangeDraft, *, checker: Any, reason: str, apply: Callable[[], object]) -> None:
    """Let a draft take effect by `apply`, once. Raise `NotPublished` if it can't.

    The caller has checked the rights of the person and the fresh proof.
    """
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    if not may_check(checker, draft.maker):
        raise NotPublished(_("You made this draft. Another person must publish it."))
    name = checker.get_username()
    try:
        with transaction.atomic():
            # First, so that only one of two people gets past this line.
            _decide(draft, DraftState.PUBLISHED, name, reason)
            apply()
            _record_decision("publish_draft", draft, name, reason)
    except Overtaken:
        with transaction.atomic():
            _decide(draft, DraftState.OVERTAKEN, name, reason)
            _record_decision("overtake_draft", draft, name, reason)
        raise


def reject(draft: ChangeDraft, *, actor: str, reason: str) -> None:
    """End the wait of a draft for good. Raise `NotPublished` if it no longer waits."""
    if not reason.strip():
        raise ValueError("reason: a reason is required")
    with transaction.atomic():
        _decide(draft, DraftState.REJECTED, actor, reason)
        _record_decision("reject_draft", draft, actor, reason)


def waiting_drafts() -> QuerySet[ChangeDraft]:
    return ChangeDraft.objects.filter(state=DraftState.WAITING, expires_at__gt=clock.now())


def drafts_of(rows: QuerySet[ChangeDraft], user: Any) -> QuerySet[ChangeDraft]:
    """Keep the drafts that the person may see: those of granted accounts, of records that the
    person may view. Who has every account sees those about all of them.
    """
    may = user.has_perm
    hidden = [] if may("people.view_accountgrant") else [ReviewKind.GRANT]
    hidden += [] if may("orders.view_risklimit") else [ReviewKind.LIMIT]
    if not may("exchanges.view_exchangeaccount"):
        hidden += [ReviewKind.RESUME, ReviewKind.LIVE, ReviewKind.KEY]
    rows = rows.exclude(kind__in=hidden) if hidden else rows
    granted = account_ids(user)
    if granted is None:
        return rows
    own = Q(account__in=granted)
    return rows.filter(own | Q(account=None) if has_every_account(user) else own)


def _decide(draft: ChangeDraft, state: DraftState, actor: str, reason: str) -> None:
    values = {
        "state": state,
        "checker": actor,
        "decided_at": clock.now(),
        "decision": reason,
    }
    if not waiting_drafts().filter(pk=draft.pk).update(**values):
        raise NotPublished(_("Nothing was changed: the draft no longer waits."))
    for name, value in values.items():
        setattr(draft, name, value)


def _record_decision(verb: str, draft: ChangeDraft, actor: str, reason: str) -> None:
    _record(
        verb,
        draft,
        actor=actor,
        reason=reason,
        before={"state": str(DraftState.WAITING), "maker": draft.maker},
        after={"state": str(draft.state)},
    )


def _record(
    verb: str, draft: ChangeDraft, *, actor: str, reason: str, before: Any, after: Any
) -> None:
    record_act(
        verb,
        actor=actor,
        subject=draft.name,
        account=draft.account.name if draft.account else "",
        reason=reason,
        before=before,
        after=after,
        touched=[draft.subject],
    )
