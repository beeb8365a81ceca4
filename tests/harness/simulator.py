"""Run the exchange simulator as a process, and point the back office at it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from exchanges.simulator.client import ControlClient
from tests.harness.processes import ChildProcess

API_KEY = "suite-key"
API_SECRET = "suite-secret"
_READY = "simulator ready on "


class Simulator:
    """One simulator process with its key and addresses, by default with a frozen book."""

    def __init__(
        self, directory: Path, *, options: Sequence[str] = ("--frozen",), name: str = "simulator"
    ) -> None:
        self.api_key = API_KEY
        self.api_secret = API_SECRET
        argv = [
            "-m",
            "exchanges.simulator",
            "--port",
            "0",
            "--api-key",
            API_KEY,
            "--api-secret",
            API_SECRET,
            *options,
        ]
        self.child = ChildProcess(
            name,
            [sys.executable, *argv],
            env=os.environ,
            log=directory / f"{name}.log",
            ready=_READY,
            fresh=False,
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

    def add_account(self, name: str, balances: Mapping[str, str]) -> dict[str, str]:
        """Add an account with a key of its own. Return the variables that connect it.

        A reset of the simulator removes it.
        """
        key, secret = f"{name}-key", f"{name}-secret"
        self.control.add_account(name, balances, api_key=key, api_secret=secret)
        return self.environment(name, key, secret)

    def environment(
        self, account_name: str, api_key: str | None = None, api_secret: str | None = None
    ) -> dict[str, str]:
        """Return the variables that connect an account of this name to this simulator.

        Without a key and a secret, they are the first account's.
        """
        prefix = f"EXCHANGE_{account_name.upper().replace('-', '_')}"
        return {
            f"{prefix}_API_KEY": api_key or self.api_key,
            f"{prefix}_API_SECRET": api_secret or self.api_secret,
            f"{prefix}_REST_URL": self.url,
            f"{prefix}_WS_URL": self.ws_url,
        }
