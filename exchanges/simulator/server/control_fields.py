"""Read the fields of a request to the control plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exchanges.simulator.engine.types import units

Body = Mapping[str, Any]


class ControlError(ValueError):
    """Signal an invalid control request. The text gives the reason."""


def read_text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ControlError(f"{name}: must be text")
    return value


def read_units(body: Body, name: str) -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ControlError(f"{name}: must be a decimal as text")
    try:
        return units(value)
    except (ValueError, ArithmeticError) as error:
        raise ControlError(f"{name}: {error}") from error


def optional_units(body: Body, name: str) -> int | None:
    return None if body.get(name) is None else read_units(body, name)


def read_number(body: Body, name: str) -> float:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ControlError(f"{name}: must be a number")
    return float(value)


def read_boolean(body: Body, name: str) -> bool:
    value = body.get(name)
    if not isinstance(value, bool):
        raise ControlError(f"{name}: must be true or false")
    return value


def assign(target: Any, body: Body, kinds: Mapping[str, type]) -> None:
    """Set known attributes. Raise ControlError and set none if a name or type is wrong."""
    for name, value in body.items():
        kind = kinds.get(name)
        if kind is None:
            raise ControlError(f"unknown key {name!r}")
        good = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not good or (kind is not bool and isinstance(value, bool)):
            raise ControlError(f"{name}: must be {kind.__name__}")
    for name, value in body.items():
        setattr(target, name, value)
