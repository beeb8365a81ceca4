"""The page of the duties, and the alarm about one that stands still."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import F
from django.test import Client

from backoffice.duty_states import duty_states
from backoffice.people.roles import setup_roles
from exchanges.db.duty_runs import stamp_run, stamp_runs
from exchanges.models import DutyRun, ExchangeAccount

pytestmark = pytest.mark.django_db
PAGE = "/admin/exchanges/dutyrun/"


@pytest.fixture
def running(demo: ExchangeAccount) -> None:
    for state in duty_states():
        stamp_runs(state.duty, [demo.pk]) if state.account else stamp_run(state.duty)


def test_desk__shows_a_duty_that_stands_still(boss: Client, running: None) -> None:
    assert "stands still" not in boss.get(PAGE).content.decode()
    assert "stand still" not in boss.get("/admin/").content.decode()
    rows = DutyRun.objects.filter(duty="orders.sweep_account")
    rows.update(ran_at=F("ran_at") - timedelta(seconds=61))
    html = boss.get(PAGE).content.decode()
    assert html.count("stands still") == 1
    alarm = "These duties stand still: orders.sweep_account of demo."
    assert alarm in boss.get("/admin/").content.decode()


def test_desk__shows_duties_to_viewers_and_to_nobody_without_the_permission(
    client: Client, running: None
) -> None:
    viewer = User.objects.create_user("vera", is_staff=True)
    client.force_login(viewer)
    DutyRun.objects.all().delete()
    assert client.get(PAGE).status_code == 403
    assert "stand still" not in client.get("/admin/").content.decode()
    setup_roles()
    viewer.groups.add(viewer.groups.model.objects.get(name="Viewer"))
    assert client.get(PAGE).status_code == 200
    assert "stand still" in client.get("/admin/").content.decode()
