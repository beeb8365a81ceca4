"""A secret in a variable reaches no log, also if the code that holds it fails."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.harness.processes import ROOT

PROGRAM = """
import sys, structlog, logging
from backoffice.logs import configure_logging
configure_logging(level="DEBUG", as_json=sys.argv[1] == "json")

def sign_in(password):
    api_secret = "SENTINEL-secret"
    return {"api_secret": api_secret}["nothing"]

for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
    try:
        sign_in("SENTINEL-password")
    except KeyError:
        log.exception("it_failed")
"""


@pytest.mark.parametrize("form", ["readable", "json"])
def test_logs__show_the_place_of_an_error_and_no_variables(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.count("it_failed") == 2
    assert done.stderr.count("in sign_in") == 2, "the traceback is there"
    assert "SENTINEL-password" not in done.stderr
    if form == "json":
        assert all(json.loads(line) for line in done.stderr.splitlines())
    assert "api_secret = 'SENTINEL" not in done.stderr
