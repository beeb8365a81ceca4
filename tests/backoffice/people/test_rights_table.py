"""The rights of each role on a granted account: every address, every action, every command.

`NEEDS` says which permission each address needs. An address that it lacks fails the test, so a new
page gets its row here. `docs/roles.md` says which role has which permission.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from backoffice.people.models import JournalEntry
from backoffice.people.roles import ROLES
from exchanges import clock, trading_state
from exchanges.models import ExchangeAccount
from tests.backoffice.people.test_grants import (
    ACTIONS,
    ANSWER,
    SECRET,
    World,
    addresses,
    content_of,
    member,
)
from tests.factories import ExchangeAccountFactory

pytestmark = pytest.mark.django_db

REFUSED = (403, 405)  # the second for an address that knows no such method
# Half a minute each, so the suite takes one role, and `make test-long` the others.
ADMINISTRATOR = pytest.param("Administrator", marks=pytest.mark.long)
ONE_AND_ALL = [
    "Risk officer",
    *(pytest.param(role, marks=pytest.mark.long) for role in ("Viewer", "Trader", "Auditor")),
    ADMINISTRATOR,
]
NOBODY = "nobody"  # no role, and no permission that a role could have
ANYBODY = "anybody"  # the whole staff

# The first pattern that fits an address counts. A permission, or several that are all needed.
NEEDS: list[tuple[str, str]] = [
    (r"second-factor/|my-sign-in/|passkeys/|login/|password_change/|jsi18n/|r/", ANYBODY),
    (r"live/|stop/ask/|search/|i18n/|bulk/|tour/", ANYBODY),
    (r"autocomplete/", NOBODY),  # without the name of a field
    (r"$|(people|exchanges|orders|desk|auth)/$|nothing-here$", ANYBODY),
    (r"stop/", "exchanges.halt_trading"),
    (r"desk/workitem/do/", "desk.work"),
    (r"exchanges/exchangeaccount/.+/(halt|reduce)/", "exchanges.halt_trading"),
    (r"exchanges/exchangeaccount/.+/resume/", "exchanges.resume_trading"),
    (r"exchanges/exchangeaccount/.+/check-key/", "exchanges.reconcile_account"),
    (r"exchanges/exchangeaccount/.+/breaker/", "exchanges.force_breaker"),
    (r"exchanges/exchangeaccount/.+/gone/", "orders.mark_symbol_gone"),
    (r"exchanges/exchangeaccount/.+/epoch/", "exchanges.begin_epoch"),
    (r"exchanges/tradinghalt/.+/halt/", "exchanges.halt_trading people.all_accounts"),
    (r"exchanges/tradinghalt/.+/resume/", "exchanges.resume_trading people.all_accounts"),
    (r"orders/order/by-hand/", "orders.place_by_hand"),
    (r"orders/order/.+/(release|reject)/", "orders.release_order"),
    (r"orders/order/.+/cancel/", "orders.cancel_order"),
    (r"orders/order/.+/ask/", "exchanges.reconcile_account"),
    (r"orders/order/.+/lost/", "orders.declare_lost"),
    (r"orders/order/all/", "orders.cancel_order"),
    (r"orders/reconciliationbreak/all/", "orders.close_break"),
    (r"orders/reconciliationbreak/.+/close/", "orders.close_break"),
    (r"orders/risklimit/ask/", "orders.simulate_gate"),
    (r"people/journalentry/export/", "people.view_journalentry"),
    (r"people/changedraft/.+/publish/", "people.publish_changedraft exchanges.resume_trading"),
    (r"people/changedraft/.+/reject/", "people.publish_changedraft"),
    (r"people/personsession/\d+/(history/)?$", ANYBODY),  # there is no such row
    (r"auth/user/.+/(password|reset-factor)/", "auth.change_user"),
    (r".+/.+/.+/journal/", "people.view_journalentry"),
]
# What the pages themselves refuse to everybody, whatever the permission.
NEVER = {
    "add": {
        *("order", "exchangeorder", "fill", "orderevent", "position", "reconciliationbreak"),
        *("risklimitchange", "breakerchange", "tradinghalt", "instrument", "balance", "lease"),
        *("leasechange", "dutyrun", "journalentry", "changedraft", "personsession"),
    },
    "delete": {
        *("order", "exchangeorder", "fill", "orderevent", "position", "reconciliationbreak"),
        *("risklimitchange", "breakerchange", "tradinghalt", "instrument", "balance", "lease"),
        *("leasechange", "dutyrun", "journalentry", "changedraft", "personsession"),
        *("user", "exchangeaccount"),
    },
}


def needed(address: str) -> set[str]:
    """Return the permissions that an address needs."""
    rest = address.removeprefix("/admin/")
    for pattern, permissions in NEEDS:
        if re.match(pattern, rest):
            return set(permissions.split()) - {ANYBODY}
    app, model, *more = rest.rstrip("/").split("/")
    if len(more) == 1 and more != ["add"]:
        return set()  # leads to the page of the row
    verb = more[-1] if more and more[-1] in ("add", "delete") else "view"
    if model in NEVER.get(verb, ()):
        return {NOBODY}
    return {f"{app}.{verb}_{model}"}


def own_addresses(world: World) -> Iterator[str]:
    """Leave out the prices, for which a worker asks the exchange: no worker runs here."""
    return (one for one in addresses(world) if not one.endswith("/prices/"))


@pytest.mark.parametrize("role", ONE_AND_ALL)
def test_a_role__opens_what_its_permissions_say_on_a_granted_account(
    role: str, client: Client
) -> None:
    mine = World("mine")
    ExchangeAccountFactory(name="other")
    user = member(role, mine.account)
    client.force_login(user)
    client.raise_request_exception = False
    granted = user.get_all_permissions()
    before, wrong = mine.state(), {}
    for address in own_addresses(mine):
        may = needed(address) <= granted
        status = client.get(address).status_code
        if ((status in REFUSED) != (not may) and status != 405) or status >= 500:
            wrong[address] = f"{status} although {'allowed' if may else 'refused'}"
        if not may and (status := client.post(address, ANSWER).status_code) not in REFUSED:
            wrong[address] = f"POST {status} although refused"
    assert wrong == {}
    assert mine.state() == before


NEEDED_BY_ACTION = {
    "halt_selected": "exchanges.halt_trading",
    "reduce_selected": "exchanges.halt_trading",
    "resume_selected": "exchanges.resume_trading",
    "reconcile_selected": "exchanges.reconcile_account",
    "cancel_selected": "orders.cancel_order",
    "close_selected": "orders.close_break",
    "release_selected": "exchanges.release_lease",
    "hold_selected": "exchanges.release_lease",
}
# Asks a worker, and leaves no change here.
_ELSEWHERE = {"reconcile_selected", "cancel_selected"}


@pytest.mark.parametrize("role", ROLES)
def test_a_role__does_the_actions_of_its_permissions(role: str, client: Client) -> None:
    mine = World("mine")
    user = member(role, mine.account)
    client.force_login(user)
    granted = user.get_all_permissions()
    for address, names in ACTIONS.items():
        model = address.split("/")[-2]
        for name in names:
            delete = f"{address.split('/')[-3]}.delete_{model}"
            may = NEEDED_BY_ACTION.get(name, delete) in granted
            if may and name in _ELSEWHERE:
                continue
            ExchangeAccount.objects.update(trading_state="ACTIVE")
            mine.lease.save()  # releasing it has removed it
            if name == "resume_selected":
                trading_state.halt_trading(account=mine.account, reason="x", actor="rule:x")
            before = mine.state()
            form = {**ANSWER, "action": name, ACTION_CHECKBOX_NAME: str(mine.key_of(model))}
            client.post(address, form)
            assert (mine.state() != before) == may, (address, name)


@pytest.mark.long
def test_get__changes_nothing_and_records_only_exports(client: Client) -> None:
    mine = World("mine")
    client.force_login(User.objects.create_superuser("boss"))
    client.raise_request_exception = False
    before, entries = mine.state(), JournalEntry.objects.count()
    for address in own_addresses(mine):
        client.get(address)
        assert mine.state() == before, address
    new = JournalEntry.objects.order_by("id")[entries:]
    assert {entry.verb.partition("_")[0] for entry in new} == {"export"}


@pytest.mark.parametrize("role", ROLES)
def test_a_command__takes_the_name_of_a_superuser_only(role: str) -> None:
    account = ExchangeAccountFactory(name="mine")
    trading_state.halt_trading(account=account, reason="x", actor="rule:x")
    user = member(role, account)
    with pytest.raises(CommandError, match="is not an active superuser"):
        call_command(
            "resume_trading",
            account="mine",
            reason="r",
            despite_unsafe_key_as=user.username,
            stdout=StringIO(),
        )
    account.refresh_from_db()
    assert account.trading_state == "HALTED"


@pytest.mark.long
@pytest.mark.parametrize("role", [one for one in ONE_AND_ALL if one != ADMINISTRATOR])
def test_a_page__is_the_same_whatever_other_accounts_have(role: str, client: Client) -> None:
    """Counts, badges and totals, too, count only what is granted."""
    mine = World("mine")
    other = ExchangeAccountFactory(name=SECRET)  # so that nobody has every account
    client.force_login(member(role, mine.account))
    lists = [one for one in addresses(mine) if re.fullmatch(r"/admin/\w+/\w+/", one)]
    # People and roles belong to no account, and this test adds some.
    lists = [one for one in lists if not re.search("/auth/|/linkedlogin/", one)]
    lists += ["/admin/", "/admin/stop/"]
    with time_machine.travel(clock.now(), tick=False):
        before = {address: words_of(client.get(address)) for address in lists}
        World(other.name)
        World("third")
        for address in lists:
            assert words_of(client.get(address)) == before[address], address


def words_of(answer: Any) -> list[str]:
    """Return the words of a page as a person sees them."""
    html = re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", content_of(answer))
    return html.split()
