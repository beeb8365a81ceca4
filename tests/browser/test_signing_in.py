"""Sign in with second factors in a real browser, where no page breaks the policy of content."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django_otp.oath import totp
from django_otp_webauthn.models import WebAuthnCredential
from playwright.sync_api import Browser, Page, expect
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer

from backoffice.people.factor_models import Authenticator, RecoveryCodes
from backoffice.people.models import PersonSession
from backoffice.people.proofs import PROVEN_AT
from backoffice.people.session_store import SessionStore
from exchanges.models import ExchangeAccount, TradingState
from tests.browser.test_admin_pages import keep
from tests.factories import FillFactory, InstrumentFactory, OrderFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a-long-enough-password"
VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture
def boss(transactional_db: None) -> User:
    return User.objects.create_superuser("boss", password=PASSWORD)


def give_password(page: Page, live_server: LiveServer) -> None:
    page.set_default_timeout(20_000)
    page.goto(f"{live_server.url}/admin/")
    page.get_by_label("Username").fill("boss")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


def add_virtual_authenticator(page: Page) -> None:
    """Give the browser a passkey device that says yes by itself."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def let_the_proof_grow_old() -> None:
    """Date the proof of every session back, as if the person had worked on for long."""
    for row in PersonSession.objects.all():
        data = row.get_decoded() | {PROVEN_AT: 0}
        row.session_data = SessionStore().encode(data)
        row.save(update_fields=["session_data"])


def test_passkey__is_added_opens_the_door_and_confirms_an_act(
    page: Page, live_server: LiveServer, boss: User, demo: ExchangeAccount
) -> None:
    ExchangeAccount.objects.update(trading_state=TradingState.HALTED)
    add_virtual_authenticator(page)
    give_password(page, live_server)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto(f"{live_server.url}/admin/my-sign-in/")
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("added")).to_be_visible()
    assert WebAuthnCredential.objects.get().user == boss
    keep(page, "my-sign-in-passkey")

    page.context.clear_cookies()
    give_password(page, live_server)
    expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
    keep(page, "second-factor")
    page.goto(f"{live_server.url}/admin/orders/order/")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(re.compile("/admin/orders/order/"))

    let_the_proof_grow_old()
    page.goto(f"{live_server.url}/admin/exchanges/exchangeaccount/{demo.pk}/resume/")
    expect(page.get_by_text("needs fresh proof")).to_be_visible()
    keep(page, "step-up-passkey")
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_text("Resume trading?")).to_be_visible()
    page.get_by_label("Reason").fill("all is well")
    page.get_by_role("button", name="Resume trading").click()
    expect(page.get_by_text("Trading resumed.")).to_be_visible()
    demo.refresh_from_db()
    assert demo.trading_state == TradingState.ACTIVE

    page.goto(f"{live_server.url}/admin/people/personsession/")
    expect(page.locator("#result_list tbody")).to_have_count(2)  # before and after the cookies went
    keep(page, "sessions")
    page.goto(f"{live_server.url}/admin/auth/user/{boss.pk}/reset-factor/")
    keep(page, "reset-factor")
    page.get_by_role("button", name="Reset the second factor").click()
    expect(page.locator("#id_username")).to_be_visible()  # one's own sessions end, too
    assert not WebAuthnCredential.objects.exists()


def test_lock_out__says_how_long_it_lasts(
    browser: Browser, live_server: LiveServer, boss: User
) -> None:
    page = browser.new_page()  # its console shows the refusal as an error
    page.set_default_timeout(20_000)
    page.goto(f"{live_server.url}/admin/")
    for _ in range(6):
        page.get_by_label("Username").fill("boss")
        page.get_by_label("Password").fill("a guess")
        page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Too many attempts. Try again in 15 minutes.")).to_be_visible()
    keep(page, "lock-out")
    page.close()


LATER = pytest.mark.long  # the same way through the same pages


@pytest.mark.parametrize(
    "look",
    ["light", "russian", pytest.param("dark", marks=LATER), pytest.param("phone", marks=LATER)],
)
def test_authenticator__is_added_with_its_recovery_codes(
    page: Page, live_server: LiveServer, boss: User, settings: Settings, look: str
) -> None:
    settings.SECOND_FACTOR = "always"
    if look == "dark":
        page.emulate_media(color_scheme="dark")
    if look == "phone":
        page.set_viewport_size({"width": 390, "height": 844})
    if look == "russian":
        page.context.add_cookies(
            [{"name": "django_language", "value": "ru", "url": live_server.url}]
        )
    page.set_default_timeout(20_000)
    page.goto(f"{live_server.url}/admin/")
    page.locator("#id_username").fill("boss")
    page.locator("#id_password").fill(PASSWORD)
    page.locator("#login-form button").click()
    page.wait_for_url(re.compile("/admin/my-sign-in/$"))
    keep(page, f"enroll-{look}")
    page.locator("a[href$='/authenticator/']").click()
    seed = page.locator(".people-seed").inner_text()
    keep(page, f"authenticator-{look}")
    salt = PersonSession.objects.get().get_decoded()["pending_authenticator"]
    app = Authenticator(user=boss, key=salt)
    assert app.seed_text == seed
    page.locator("#id_code").fill(f"{totp(app.bin_key):06d}")
    page.locator("form .people-verbs button").click()
    expect(page.locator(".people-codes li")).to_have_count(10)
    keep(page, f"recovery-codes-{look}")
    code = page.locator(".people-codes li").first.inner_text()
    page.locator(".people-verbs a").click()
    expect(page.locator(".people-section")).to_have_count(4)
    keep(page, f"my-sign-in-{look}")

    page.goto(f"{live_server.url}/admin/auth/group/add/")  # a fresh proof was just given
    expect(page.locator("#id_name")).to_be_visible()
    let_the_proof_grow_old()
    page.goto(f"{live_server.url}/admin/auth/group/add/")
    keep(page, f"step-up-{look}")
    page.locator("#id_step_up_answer").fill(code)
    page.locator("#content-main button[type=submit]").click()
    expect(page.locator("#id_name")).to_be_visible()
    assert RecoveryCodes.objects.get().token_set.count() == 9


# -- The policy of content -------------------------------------------------------------------------


def addresses() -> Iterator[str]:
    """Yield the address of every page of the admin that needs no argument."""

    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, path)
            elif not re.search(r"[<(\\]", path) and path.startswith("admin/"):
                yield "/" + path.replace("^", "").replace("$", "")

    yield from walk(get_resolver().url_patterns, "")


#: They answer with data or end the session instead of showing a page.
NO_PAGES = ("jsi18n", "logout", "autocomplete", "passkeys", "export", "search", "live", "stream")


def test_no_page__breaks_the_policy_of_content(
    page: Page, live_server: LiveServer, boss: User
) -> None:
    fill = FillFactory()
    OrderFactory(account=fill.account)
    InstrumentFactory()
    page.add_init_script(VIOLATIONS)
    give_password(page, live_server)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    pages = [address for address in addresses() if not any(word in address for word in NO_PAGES)]
    account = f"/admin/exchanges/exchangeaccount/{fill.account_id}"
    pages += [f"/admin/orders/order/{fill.order_id}/change/", f"{account}/change/"]
    pages += [f"{account}/breaker/", f"/admin/auth/user/{boss.pk}/change/"]
    inside = Client()
    inside.force_login(boss)
    pages = [address for address in pages if inside.get(address).status_code == 200]
    assert len(pages) > 25
    for address in pages:
        answer = page.goto(f"{live_server.url}{address}", wait_until="load")
        assert answer is not None
        policy = answer.headers.get("content-security-policy", "")
        assert "default-src 'none'" in policy, address
        assert "script-src 'self' 'unsafe-eval'" in policy, address
        assert page.evaluate("window.violations") == [], address

    page.goto(f"{live_server.url}/admin/")
    page.keyboard.press("Control+k")  # the theme's search asks by htmx
    page.wait_for_timeout(300)
    assert page.evaluate("window.violations") == []


def test_policy_of_content__stops_a_foreign_script(
    browser: Browser, live_server: LiveServer, boss: User
) -> None:
    page = browser.new_page()  # its console may show errors
    page.goto(f"{live_server.url}/admin/login/")
    stopped = page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) =>
                done(event.violatedDirective));
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
        })"""
    )
    assert stopped.startswith("script-src")
    assert page.evaluate("window.ran") is None
    page.close()
