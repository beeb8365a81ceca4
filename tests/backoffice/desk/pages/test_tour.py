"""The guided tour of the demo: seven steps, each on a page that the person may open."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from pytest_django.fixtures import Settings

from backoffice.desk.pages.tour import COOKIE, STEPS
from tests.factories import OrderFactory

pytestmark = pytest.mark.django_db

TOUR = "/admin/tour/"


@pytest.fixture(autouse=True)
def _demo(settings: Settings) -> None:
    settings.DEMO_TOUR = True


def test_tour__leads_through_seven_pages_and_ends(boss: Client) -> None:
    OrderFactory(strategy="quoteseth")
    assert len(STEPS) == 7
    assert "1 / 7" in boss.get("/admin/").content.decode()
    for number, step in enumerate(STEPS, 1):
        response = boss.post(TOUR, {"step": str(number)})
        assert response.headers["Location"] == step.address
        page = boss.get(step.address)
        assert page.status_code == 200
        html = page.content.decode()
        assert f"{number} / 7" in html
        assert "Show me" not in html, "the person is there"
    assert "Finish" in html
    assert "Show me" in boss.get("/admin/orders/fill/").content.decode()
    boss.post(TOUR, {"step": "done"})
    assert "desk-tour" not in boss.get("/admin/").content.decode()


def test_tour__shows_only_pages_that_the_person_may_open() -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.groups.add(Group.objects.get(name="Viewer"))
    user.user_permissions.add(Permission.objects.get(codename="all_accounts"))
    client = Client()
    client.force_login(user)
    for number in range(1, 7):
        address = client.post(TOUR, {"step": str(number)}).headers["Location"]
        assert client.get(address).status_code == 200
        assert f"{number} / 6" in client.get(address).content.decode()


@pytest.mark.parametrize("step", ["", "0", "-1", "99", "²", "x" * 4000, "//evil.example"])
def test_tour__takes_hostile_steps_for_a_step(boss: Client, step: str) -> None:
    location = boss.post(TOUR, {"step": step}).headers["Location"]
    assert location in {each.address for each in STEPS}
    boss.cookies[COOKIE] = step[:50]
    assert boss.get("/admin/orders/fill/").status_code == 200


def test_tour__is_no_part_of_an_installation(boss: Client, settings: Settings) -> None:
    settings.DEMO_TOUR = False
    assert "desk-tour" not in boss.get("/admin/").content.decode()


def test_tour__needs_a_post_of_a_person(boss: Client, client: Client) -> None:
    assert boss.get(TOUR).status_code == 405
    client.logout()
    assert "/login/" in client.post(TOUR, {"step": "1"}).headers["Location"]
