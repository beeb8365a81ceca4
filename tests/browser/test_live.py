"""Live pages in a real browser, served as in production: no reload, and honest about old data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from time import monotonic

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from playwright.sync_api import Page, expect

from backoffice.people.roles import setup_roles
from exchanges.models import ExchangeAccount
from tests.harness.processes import ProcessFactory
from tests.harness.web import Web, session_of
from tests.steps import record

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def web(page: Page, processes: ProcessFactory) -> Iterator[Web]:
    yield Web(processes)
    for each in page.context.pages:
        each.goto("about:blank")  # a live page would miss its server, which ends first


@pytest.fixture
def boss(transactional_db: None) -> User:
    setup_roles()
    return User.objects.create_superuser("boss")


def open_desk(page: Page, web: Web, boss: User) -> None:
    page.set_default_timeout(20_000)
    page.context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": session_of(boss), "url": web.url}]
    )
    page.goto(f"{web.url}/admin/")
    expect(page.get_by_role("status").get_by_text("Live", exact=True)).to_be_visible()


@pytest.mark.core
def test_desk__shows_an_order_within_a_second_of_its_commit(
    page: Page, web: Web, boss: User, demo: ExchangeAccount
) -> None:
    open_desk(page, web, boss)
    record("warm-up")  # the first page of the process compiles its templates
    expect(page.get_by_text("warm-up").first).to_be_visible()
    page.wait_for_timeout(500)  # the rest between two bells
    record("seen-live")
    committed_at = monotonic()
    expect(page.get_by_text("seen-live").first).to_be_visible(timeout=5_000)
    assert monotonic() - committed_at < 1.0


def test_pages__of_one_browser_share_a_stream(
    page: Page, web: Web, boss: User, demo: ExchangeAccount
) -> None:
    open_desk(page, web, boss)
    second = page.context.new_page()
    second.goto(f"{web.url}/admin/")
    expect(second.get_by_role("status").get_by_text("Live", exact=True)).to_be_visible()
    record("on-both")
    expect(page.get_by_text("on-both").first).to_be_visible()
    expect(second.get_by_text("on-both").first).to_be_visible()
    assert web.process.output().count("GET /admin/live/ ") == 1


def test_desk__says_since_when_its_data_are_old(
    page: Page, web: Web, boss: User, demo: ExchangeAccount
) -> None:
    open_desk(page, web, boss)
    page.wait_for_function("() => !deskLive.isBusy && !deskLive.dirty.size")
    web.process.stop()
    mark = page.get_by_role("status")
    expect(mark.locator("[data-when=stale]")).to_be_visible()
    expect(mark.locator("[data-when=stale] time")).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))
    record("meanwhile")
    web.process.start()
    expect(mark.get_by_text("Live", exact=True)).to_be_visible(timeout=30_000)
    expect(page.get_by_text("meanwhile").first).to_be_visible()


def test_desk__says_that_the_person_is_signed_out(page: Page, web: Web, boss: User) -> None:
    open_desk(page, web, boss)
    User.objects.filter(pk=boss.pk).update(is_active=False)
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
