"""Carry a request in and its answer out, for REST and WebSocket API alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from exchanges.simulator.api.operations import Operation
from exchanges.simulator.api.params import Params
from exchanges.simulator.errors import ApiError
from exchanges.simulator.exchange.keys import ApiKey

# The divisor of microseconds for each time unit that a client may ask for.
MILLISECONDS = 1000
MICROSECONDS = 1


class Wire(Protocol):
    """Control the connection of a request. Faults need this."""

    def reset(self) -> None:
        """End the connection with a TCP reset."""

    def close(self) -> None:
        """End the connection cleanly, without an answer."""

    async def gone(self) -> None:
        """Wait until the client has disconnected."""


@dataclass(slots=True)
class Incoming:
    """Carry a received request.

    `session_key` is the key of a logged-on WebSocket session.
    """

    api: str
    ip: str
    operation: Operation
    params: Params
    api_key: str | None
    payload: bytes
    unit: int = MILLISECONDS
    session_key: ApiKey | None = None


@dataclass(slots=True)
class Reply:
    """Carry an answer: a body, a refusal, or the `raw` text of a fault.

    With `cut`, only half of it is sent.
    """

    status: int = 200
    body: Any = None
    error: ApiError | None = None
    raw: str | None = None
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    orders: list[dict[str, Any]] | None = None
    cut: bool = False

    def payload(self) -> Any:
        if self.error is not None:
            return {"code": self.error.code, "msg": self.error.message}
        return self.body


def refusal(error: ApiError) -> Reply:
    return Reply(status=error.status, error=error)


def maintenance_reply() -> Reply:
    return Reply(
        status=503, error=ApiError(-1016, "This service is no longer available.", status=503)
    )
