"""Read the frames of the WebSocket API: one JSON object each way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from exchanges.simulator import errors
from exchanges.simulator.api.params import json_params


class _Literal(float):
    """Keep the text of a JSON number, because the client signed that text."""

    text: str


def _read_literal(text: str) -> _Literal:
    number = _Literal(text)
    number.text = text
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise errors.duplicate_values()
    return values


def read_frame(text: str) -> dict[str, Any]:
    """Return a request frame as an object. Its numbers keep their text.

    The first parser is the strict one (no NaN, no lone surrogates). The second one keeps literals
    and detects duplicates.
    """
    try:
        orjson.loads(text)
        frame = json.loads(text, parse_float=_read_literal, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise errors.invalid_json() from error
    if not isinstance(frame, dict):
        raise errors.invalid_json()
    return frame


def frame_params(frame: Mapping[str, Any]) -> dict[str, str]:
    params = frame.get("params")
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise errors.invalid_json("params")
    return json_params(
        {
            name: value.text if isinstance(value, _Literal) else value
            for name, value in params.items()
        }
    )


def frame_identity(frame: Mapping[str, Any]) -> Any:
    """Return the id of the request: an integer, a text or null. Raise an error without one."""
    if "id" not in frame:
        raise errors.missing("id")
    value = frame["id"]
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | str)):
        raise errors.missing("id")
    if isinstance(value, int) and value.bit_length() > 63:
        raise errors.overflowed("id")
    return value


def frame_method(frame: Mapping[str, Any]) -> str:
    value = frame.get("method")
    if not isinstance(value, str) or not value:
        raise errors.missing("method")
    return value.removeprefix("v3/")


def wants_limits(values: Mapping[str, str], default: bool) -> bool:
    sent = values.get("returnRateLimits")
    return default if sent is None else sent.lower() == "true"
