"""The exchange side's commands."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from backoffice.local.embedded import HOST, free_port
from exchanges.simulator.client import ControlClient
from tests.harness.processes import ROOT, ChildProcess


@pytest.mark.long
def test_run_simulator__runs_the_simulator_with_its_options_until_it_is_asked_to_stop(
    tmp_path: Path,
) -> None:
    port = free_port()
    options = [
        "--port",
        str(port),
        "--api-key",
        "K",
        "--api-secret",
        "S",
        "--balances",
        "USDT=7,BTC=1.5",
        "--frozen",
    ]
    argv = [
        sys.executable,
        "manage.py",
        "run_simulator",
        *options,
        "--seed",
        "3",
        "--latency-ms",
        "1",
    ]
    # It stands alone: without a database, and without a broker.
    env = os.environ | {
        "DATABASE_URL": f"postgres://nobody@{HOST}:1/none",
        "REDIS_URL": f"redis://{HOST}:1/0",
    }
    child = ChildProcess(
        "simulator", argv, env=env, log=tmp_path / "log", ready=f"ready on http://{HOST}:{port}\n"
    )
    child.start()
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/api/v3/ping", timeout=5) as response:
            assert response.status == 200
        balances = ControlClient(f"http://{HOST}:{port}").truth().balances("main")
        assert {asset: Decimal(free) for asset, (free, _) in balances.items()} == {
            "USDT": 7,
            "BTC": Decimal("1.5"),
        }
    finally:
        child.stop()
    assert child.running.returncode == 0


@pytest.mark.long
def test_run_simulator__a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        argv = [
            "run_simulator",
            "--port",
            str(taken.getsockname()[1]),
            "--api-key",
            "K",
            "--api-secret",
            "S",
        ]
        ended = subprocess.run(
            [sys.executable, "manage.py", *argv],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    assert ended.stderr == f"simulator: port {argv[2]} is taken\n"


@pytest.mark.parametrize("balances", ["USDT", "USDT=x", "USDT=-1", "USDT=NaN"])
def test_run_simulator__wrong_options_are_refused(balances: str) -> None:
    with pytest.raises(CommandError, match="is not ASSET=AMOUNT"):
        call_command("run_simulator", "--api-key", "K", "--api-secret", "S", "--balances", balances)
