#!/usr/bin/env python
"""Take the README's pictures from a running `make run`, in the light and in the dark.

    .venv/bin/python docs/take_pictures.py http://127.0.0.1:8000

It signs in as the demo's trader and writes `docs/*.png`. It needs the development requirements and
a Chromium (`CHROMIUM` names another one).
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).resolve().parent
LOGINS = DOCS.parent / "var" / "demo_logins.json"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PAGES = {"orders": "/admin/orders/order/"}


def chromium() -> str:
    """Return the browser's path. Raise LookupError if there is none."""
    for name in filter(None, (os.environ.get("CHROMIUM"), *NAMES)):
        if path := shutil.which(name):
            return path
    raise LookupError("no Chromium found: install one, or name it in CHROMIUM")


def sign_in(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/login/?next=/admin/")
    page.get_by_label("Username").fill("trader")
    page.get_by_label("Password").fill(json.loads(LOGINS.read_text())["trader"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{address}/admin/")


def main(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1440, "height": 810}, color_scheme=scheme, locale="en-GB"
            )
            # Without the guided tour, which no installation shows.
            context.add_cookies([{"name": "desk_tour", "value": "done", "url": address}])
            page = context.new_page()
            sign_in(page, address)
            for name, path in PAGES.items():
                page.goto(address + path, wait_until="load")
                page.wait_for_timeout(500)  # until the fonts are drawn
                suffix = "" if scheme == "light" else "-dark"
                page.screenshot(path=DOCS / f"{name}{suffix}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:8000")
