"""Run foreign Binance clients, unchanged and each in its own environment, on the simulator."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from exchanges.simulator.client import ControlClient
from exchanges.simulator.server.server import ThreadedSimulator
from tests.exchanges.simulator.conftest import KEY, SECRET
from tests.exchanges.simulator.exchange.test_keys import PRIVATE_KEYS, private_pem, public_pem

HERE = Path(__file__).parent
VENVS = Path(__file__).parents[4] / "var" / "client-venvs"
# Pinned, so that a new release can't break the suite overnight.
CLIENTS = {
    "binance-sdk-spot": "13.2.0",
    "python-binance": "1.0.37",
    "binance-connector": "3.13.0",
    "ccxt": "4.5.90",
}
# The scripts that check a client in depth, and those that call its every method.
DRIVERS = sorted(
    file.stem for file in HERE.glob("*.py") if file.name.startswith(("drive_", "every_"))
)
INSTALL_SECONDS = 600
DRIVE_SECONDS = 120

pytestmark = pytest.mark.long


def environment(package: str, version: str) -> Path:
    """Return the Python of an environment with only this package. Skip if it can't be installed."""
    directory = VENVS / f"{package}-{version}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = directory / "bin" / "python"
    done = directory / "installed"
    if not done.exists():
        venv.create(directory, with_pip=True, clear=True)
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            f"{package}=={version}",
        ]
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
        except subprocess.CalledProcessError as error:
            pytest.skip(f"pip cannot install {package}: {error.stderr.strip().splitlines()[-1:]}")
        except subprocess.TimeoutExpired:
            pytest.skip(f"pip did not install {package} in {INSTALL_SECONDS} s")
        done.touch()
    return python


@pytest.mark.parametrize("driver", DRIVERS)
def test_client__works_unchanged(
    driver: str, sim: ThreadedSimulator, control: ControlClient, tmp_path: Path
) -> None:
    package = driver.partition("_")[2].replace("_", "-")
    python = environment(package, CLIENTS[package])
    config = {"rest_url": sim.url, "ws_url": sim.ws_url, "key": KEY, "secret": SECRET}
    for kind, private in zip(("ed25519", "rsa"), PRIVATE_KEYS, strict=True):
        file = tmp_path / f"{kind}.pem"
        file.write_text(private_pem(private))
        config |= {f"{kind}_pem": private_pem(private), f"{kind}_file": str(file)}
        control.add_key("main", f"{kind}-key", public_pem(private))
    done = subprocess.run(
        [python, HERE / f"{driver}.py", json.dumps(config)],
        capture_output=True,
        text=True,
        timeout=DRIVE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith("ok")
