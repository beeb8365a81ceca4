"""Pages of the admin that several people have open: an outdated one can't be saved."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

pytestmark = pytest.mark.django_db
FIELDS = {"is_active": "on", "date_joined_0": "2026-01-01", "date_joined_1": "12:00:00"}


def test_user_page__saving_a_stale_page_activates_nobody(admin_client: Client) -> None:
    """One administrator gives a role, while another one deactivates the person."""
    eva = User.objects.create_user("eva", is_staff=True)
    role = Group.objects.create(name="Night desk")
    address = f"/admin/auth/user/{eva.pk}/change/"
    page = admin_client.get(address).content.decode()
    seen = page.partition('name="seen_state" value="')[2].partition('"')[0]
    assert len(seen) == 64
    User.objects.filter(pk=eva.pk).update(is_active=False)

    given = {**FIELDS, "is_staff": "on", "groups": [role.pk], "seen_state": seen}
    answered = admin_client.post(address, given)

    assert "has changed since you opened this page" in answered.content.decode()
    eva.refresh_from_db()
    assert (eva.is_active, eva.groups.count()) == (False, 0)


def test_user_page__a_page_that_shows_the_present_state_is_saved(admin_client: Client) -> None:
    eva = User.objects.create_user("eva", is_staff=True)
    address = f"/admin/auth/user/{eva.pk}/change/"
    seen = admin_client.get(address).context["adminform"].form.seen_state
    User.objects.filter(pk=eva.pk).update(last_login="2026-01-01T00:00:00Z")  # no person's change

    answered = admin_client.post(address, {**FIELDS, "seen_state": seen})

    assert answered.status_code == 302
    eva.refresh_from_db()
    assert not eva.is_staff
