"""A request on its way in and its answer on its way out, whatever it came by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from exchanges.simulator.errors import ApiError
from exchanges.simulator.operations import Operation
from exchanges.simulator.params import Params
from exchanges.simulator.render import MILLISECONDS
from exchanges.simulator.signing import ApiKey


class Wire(Protocol):
    """The connection a request came by, as far as faults need it."""

    def reset(self) -> None:
        """End it with a TCP reset."""

    def close(self) -> None:
        """End it in order, without an answer."""

    async def gone(self) -> None:
        """Wait until the client is gone."""


@dataclass(slots=True)
class Incoming:
    """One request as it was received. `session_key` is the key of a WebSocket session that logged on."""

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
    """What is answered: a body, a refusal, or `raw` text as a fault wants it. `cut`: only half of it gets out."""

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
    return Reply(status=503, error=ApiError(-1016, "This service is no longer available.", status=503))
