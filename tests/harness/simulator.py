"""The exchange simulator as a process of its own, and how the back office finds it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from exchanges.simulator.client import ControlClient
from tests.harness.processes import ChildProcess

API_KEY = "suite-key"
API_SECRET = "suite-secret"
_READY = "simulator ready on "


class Simulator:
    """One simulator process, with a frozen book unless `options` say otherwise; knows its key and addresses."""

    def __init__(self, directory: Path, *, options: Sequence[str] = ("--frozen",), name: str = "simulator") -> None:
        self.api_key = API_KEY
        self.api_secret = API_SECRET
        argv = ["-m", "exchanges.simulator", "--port", "0", "--api-key", API_KEY, "--api-secret", API_SECRET, *options]
        self.child = ChildProcess(
            name, [sys.executable, *argv], env=os.environ, log=directory / f"{name}.log", ready=_READY
        )
        self.url = ""
        self.control: ControlClient

    @property
    def ws_url(self) -> str:
        return self.url.replace("http://", "ws://") + "/ws-api/v3"

    def start(self) -> None:
        self.child.start()
        found = re.search(rf"{_READY}(\S+)", self.child.output())
        assert found is not None
        self.url = found[1]
        self.control = ControlClient(self.url)

    def stop(self) -> None:
        self.child.stop()

    def environment(self, account_name: str) -> dict[str, str]:
        """The variables that lead an account of this name here."""
        prefix = f"EXCHANGE_{account_name.upper().replace('-', '_')}"
        return {
            f"{prefix}_API_KEY": self.api_key,
            f"{prefix}_API_SECRET": self.api_secret,
            f"{prefix}_REST_URL": self.url,
            f"{prefix}_WS_URL": self.ws_url,
        }
