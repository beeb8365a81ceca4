"""A verb for a whole list: asked once, done by workers, with a line for each row."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from backoffice.desk import tasks
from backoffice.desk.bulk import runs
from backoffice.desk.models import BulkLine, BulkRun, Outcome
from backoffice.people.models import AccountGrant, JournalEntry
from exchanges.models import ExchangeAccount
from orders.models import Order, ReconciliationBreak, Status
from tests.factories import OrderFactory, ReconciliationBreakFactory
from tests.harness.scenario import Scenario
from tests.harness.simulator import Simulator
from tests.harness.waiting import wait_for
from tests.steps import submit

pytestmark = pytest.mark.django_db

CANCEL = "/admin/orders/order/all/cancel/"
CLOSE = "/admin/orders/reconciliationbreak/all/close/"


def trader(name: str, account: ExchangeAccount, role: str = "Trader") -> Client:
    user = User.objects.create_user(name, is_staff=True)
    user.groups.add(Group.objects.get(name=role))
    AccountGrant.objects.create(account=account, person=user)
    client = Client()
    client.force_login(user)
    return client


def begin(client: Client, address: str, *, key: UUID | None = None, **more: str) -> BulkRun:
    key = key or uuid4()
    form = {"confirmed": "yes", "reason": "end of day", "key": str(key), **more}
    response = client.post(address, form)
    assert response.status_code == 302
    assert response.headers["Location"] == f"/admin/bulk/{key}/"
    return BulkRun.objects.get(pk=key)


def work(run: BulkRun) -> list[tuple[str, str, str]]:
    """Do the run as a worker does, and return its lines."""
    while runs.continue_run(run.pk):
        pass
    run.refresh_from_db()
    assert run.finished_at is not None
    return [(line.name, line.outcome, line.text) for line in run.lines.order_by("position")]


def test_cancel_all__says_how_many_it_is_about_and_skips(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    tess = trader("tess", account)
    for number in range(3):
        OrderFactory(
            account=account, status=Status.FILLED, symbol="BTCUSDT", intent_id=f"f{number}"
        )
    submit("open", quantity="0.001", price="20000")
    OrderFactory(status=Status.NEW)  # of an account that isn't hers
    page = tess.get(CANCEL, {"symbol": "BTCUSDT"})
    assert page.context["counted"] == {"total": 4, "skipped": 3}
    assert (
        tess.post(f"{CANCEL}?symbol=BTCUSDT", {"confirmed": "yes", "reason": " "})
        .context["form"]
        .errors
    )
    assert not BulkRun.objects.exists()
    assert "No row matches" in tess.get(CANCEL, {"symbol": "NONE"}, follow=True).content.decode()


def test_cancel_all__gives_each_order_of_the_filter_a_line(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    tess = trader("tess", account)
    OrderFactory(account=account, status=Status.FILLED, symbol="BTCUSDT", intent_id="filled")
    submit("open", quantity="0.001", price="20000")
    other = submit("of-another-strategy", quantity="0.001", price="20000", strategy="grid")
    run = begin(tess, f"{CANCEL}?symbol=BTCUSDT&strategy=")
    run.lines.filter(name="of-another-strategy").delete()
    later = submit("later", quantity="0.001", price="20000")
    assert (run.total, run.query) == (3, "symbol=BTCUSDT&strategy=")
    lines = work(run)
    assert {name: (outcome, text) for name, outcome, text in lines} == {
        "filled": (Outcome.SKIPPED, "Order already closed: filled."),
        "open": (Outcome.DONE, "Canceled, confirmed by the exchange."),
    }
    for untouched in (later, other):
        untouched.refresh_from_db()
        assert untouched.cancel_requested_at is None
    order = Order.objects.get(intent_id="open")
    assert (order.status, order.cancel_requested_by) == (Status.CANCELED, "tess")
    acts = JournalEntry.objects.filter(person="tess").values_list("verb", "source")
    assert set(acts) >= {("cancel_all", "desk"), ("cancel", "desk")}
    html = tess.get(f"/admin/bulk/{run.pk}/").content.decode()
    assert "Order already closed: filled." in html
    assert 'max="3" value="3"' in html
    assert (
        "Canceled, confirmed"
        not in tess.get(f"/admin/bulk/{run.pk}/", {"show": "skipped"}).content.decode()
    )


def test_cancel_all__asks_again_for_the_rights_when_it_runs(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    tess = trader("tess", account)
    order = submit("open", quantity="0.001", price="20000")
    for taken_away in ("grant", "role", "login"):
        run = begin(tess, CANCEL)
        user = User.objects.get(username="tess")
        if taken_away == "grant":
            grants = list(AccountGrant.objects.filter(person=user))
            AccountGrant.objects.filter(person=user).delete()
        elif taken_away == "role":
            user.groups.clear()
        else:
            User.objects.filter(pk=user.pk).update(is_active=False)
        [(_name, outcome, text)] = work(run)
        assert (outcome, text.split(":")[0]) == (Outcome.SKIPPED, "Skipped"), taken_away
        order.refresh_from_db()
        assert order.cancel_requested_at is None
        if taken_away == "grant":
            assert tess.get(f"/admin/bulk/{run.pk}/").context["lines"] == []
            AccountGrant.objects.bulk_create(grants)
        user.groups.add(Group.objects.get(name="Trader"))


def test_cancel_all__is_one_run_if_it_is_pressed_twice(
    account: ExchangeAccount, simulator: Simulator
) -> None:
    tess, key = trader("tess", account), uuid4()
    submit("open", quantity="0.001", price="20000")
    assert begin(tess, CANCEL, key=key) == begin(tess, CANCEL, key=key)
    assert BulkLine.objects.count() == 1


def test_close_all__is_safe_if_two_press_at_once(account: ExchangeAccount) -> None:
    anna, bert = (trader(name, account, "Risk officer") for name in ("anna", "bert"))
    ReconciliationBreakFactory.create_batch(runs.STEP + 5, account=account)
    answer: dict[str, Any] = {"resolution": "corrected by hand"}
    first, second = (begin(client, CLOSE, **answer) for client in (anna, bert))
    assert {outcome for _, outcome, _ in work(second)} == {Outcome.DONE}
    assert {(outcome, text) for _, outcome, text in work(first)} == {
        (Outcome.SKIPPED, "Already closed.")
    }
    [words] = set(ReconciliationBreak.objects.values_list("resolution", flat=True))
    assert words == "corrected by hand, closed by bert: end of day"
    assert anna.get(f"/admin/bulk/{second.pk}/").status_code == 404, "another person's"


def test_close_all__needs_its_right_and_a_resolution(account: ExchangeAccount) -> None:
    ReconciliationBreakFactory(account=account)
    tess, anna = trader("tess", account), trader("anna", account, "Risk officer")
    assert tess.get(CLOSE).status_code == 403
    assert tess.get("/admin/orders/reconciliationbreak/all/cancel/").status_code == 404
    assert "all/close" not in tess.get("/admin/orders/reconciliationbreak/").content.decode()
    html = anna.get("/admin/orders/reconciliationbreak/", {"state": "open"}).content.decode()
    assert f"{CLOSE}?state=open" in html
    assert anna.post(CLOSE, {"confirmed": "yes", "reason": "x"}).context["form"].errors


def test_whole_list__refuses_more_rows_than_it_can_hold(
    account: ExchangeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MAX_ROWS", 2)
    OrderFactory.create_batch(3, account=account)
    html = trader("tess", account).get(CANCEL, follow=True).content.decode()
    assert "More than 2 rows match" in html


@pytest.mark.long
def test_result_page__takes_the_same_queries_for_any_number_of_lines(
    account: ExchangeAccount,
) -> None:
    tess, counts = trader("tess", account), []
    for number in (1, 150):
        OrderFactory.create_batch(number, account=account, status=Status.FILLED)
        run = begin(tess, CANCEL)
        work(run)
        with CaptureQueriesContext(connection) as queries:
            assert tess.get(f"/admin/bulk/{run.pk}/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]
    page = tess.get(f"/admin/bulk/{run.pk}/", {"p": "2"})
    assert len(page.context["lines"]) == 51
    for hostile in ("0", "-1", "x", "9" * 40, "²"):
        assert (
            tess.get(f"/admin/bulk/{run.pk}/", {"p": hostile, "show": hostile}).status_code == 200
        )


def test_result_page__shows_names_as_text(account: ExchangeAccount) -> None:
    tess = trader("tess", account)
    OrderFactory(account=account, status=Status.FILLED)
    run = begin(tess, CANCEL, reason="<b>all</b>")
    run.lines.update(name="<script>alert(1)</script>")
    html = tess.get(f"/admin/bulk/{run.pk}/").content.decode()
    assert "<script>alert" not in html
    assert "<b>all</b>" not in html


def test_continue_bulk__finds_runs_whose_message_was_lost(account: ExchangeAccount) -> None:
    OrderFactory(account=account, status=Status.FILLED)
    run = begin(trader("tess", account), CANCEL)
    assert runs.unfinished() == [run.pk]
    work(run)
    assert runs.unfinished() == []
    assert tasks.continue_bulk() == {"runs": 0}


@pytest.mark.django_db(transaction=True)
def test_cancel_all__is_done_by_a_worker_although_the_first_one_dies(scenario: Scenario) -> None:
    tess = trader("tess", scenario.account)
    for number in range(60):
        submit(f"open-{number}", quantity="0.001", price="20000")
    run = begin(tess, CANCEL)
    wait_for(
        lambda: run.lines.exclude(outcome="").exists(), timeout=60, what="the worker has begun"
    )
    scenario.worker.kill()
    assert BulkRun.objects.filter(pk=run.pk, finished_at=None).exists()
    scenario.worker.start()
    wait_for(
        lambda: (
            bool(tasks.continue_bulk())
            and BulkRun.objects.filter(pk=run.pk, finished_at__isnull=False).exists()
        ),
        timeout=90,
        what="another worker finishes",
    )
    assert not Order.objects.exclude(status=Status.CANCELED).exists()
    assert set(run.lines.values_list("outcome", flat=True)) == {Outcome.DONE}
