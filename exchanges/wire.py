"""One HTTP request through ccxt's client, and what came of it: an answer, or how far the request got.

ccxt turns both into exceptions that neither tell them apart nor keep a signature to themselves, so they are taken from
under it: `Wire` gives it a session that remembers. Nothing here knows what an order is.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from exchanges.errors import Transport

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one HTTP request. `message` is free of credentials; `code` is the JSON error's, if it was one."""

    transport: Transport
    message: str = ""
    status: int | None = None
    body: Any = None
    is_json: bool = False
    code: int | None = None
    retry_after: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)  # the exchange's X-MBX-* counts, by header in lower case


class Sender(Protocol):
    """What a gateway needs of a wire; a test's is one without a network."""

    def send(self, method: str, parameters: dict[str, str]) -> Outcome:
        """One request, sent at most once."""

    def cleaned(self, text: str) -> str:
        """A foreign text without credentials."""

    def close(self) -> None:
        """Let go of connections."""


class Wire:
    """Sends requests of one ccxt client (any object with its raw methods and its `session`), one thread at a time."""

    def __init__(self, client: Any, *, secrets: tuple[str, ...], read_timeout_seconds: float) -> None:
        self._client = client
        self._secrets = secrets
        self._session = _Session(client.session, read_timeout_seconds)
        client.session = self._session
        # The answer is read below, once and exactly; ccxt need not parse it, nor judge it.
        client.parse_json = _nothing
        client.handle_errors = _nothing

    def close(self) -> None:
        self._session.close()

    def send(self, method: str, parameters: dict[str, str]) -> Outcome:
        """One request, sent at most once."""
        self._session.reset()
        problem = ""
        try:
            getattr(self._client, method)(parameters)
        except Exception as error:  # noqa: BLE001  all of them: the session knows how far the request got
            problem = type(error).__name__
        session = self._session
        if session.answer is not None:
            return self._answered(session.answer)
        if session.failure is not None:
            return Outcome(session.failure.transport, session.failure.message)
        return Outcome(Transport.UNSENT, f"the request could not be prepared ({problem})")

    def cleaned(self, text: str) -> str:
        return cleaned(text, self._secrets)

    def _answered(self, answer: _Answer) -> Outcome:
        try:
            body = parsed(answer.content)
        except (ValueError, RecursionError):
            what = f"{answer.headers.get('Content-Type') or 'no type'}, {len(answer.content)} bytes"
            message = self.cleaned(f"HTTP {answer.status} with a body that is not JSON ({what})")
            return Outcome(
                Transport.ANSWERED,
                message,
                answer.status,
                retry_after=_retry_after(answer.headers),
                counts=_counts(answer.headers),
            )
        code, message = error_object(body)
        return Outcome(
            Transport.ANSWERED,
            self.cleaned(message) or f"HTTP {answer.status} without an explanation",
            answer.status,
            body=body,
            is_json=True,
            code=code,
            retry_after=_retry_after(answer.headers),
            counts=_counts(answer.headers),
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class _Failure:
    transport: Transport
    message: str


class _HaveAnswer(Exception):
    """Ends ccxt's work on a request whose answer is kept: it would read it again, and judge it."""


class _Session:
    """Stands in for requests' session below ccxt: one kept connection of urllib3, told what ccxt cannot tell it.

    requests would take a third of the time that a call costs us, and follow redirects (a 307 or 308 sends an order
    again). Connecting has a short time-out of its own, and the answer or the way it failed is kept before ccxt sees it.
    """

    def __init__(self, session: requests.Session, read_timeout_seconds: float) -> None:
        import certifi
        import urllib3

        self._pool = urllib3.PoolManager(num_pools=2, cert_reqs="CERT_REQUIRED", ca_certs=certifi.where())
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout_seconds)
        self.headers = session.headers
        self.cookies = session.cookies
        self.answer: _Answer | None = None
        self.failure: _Failure | None = None

    def reset(self) -> None:
        self.answer = self.failure = None

    def request(self, method: str, url: str, *, data: Any, headers: Mapping[str, str], **_: Any) -> NoReturn:
        """As `requests.Session.request`, but that it never returns: the answer is in `answer`."""
        try:
            response = self._pool.urlopen(
                method,
                url,
                body=data,
                headers={**self.headers, **headers},
                timeout=self._timeout,
                redirect=False,
                retries=False,
            )
        except Exception as error:
            self.failure = _failure(error)
            raise
        self.answer = _Answer(response.status, response.headers, response.data)
        raise _HaveAnswer

    def close(self) -> None:
        self._pool.clear()


def _failure(error: Exception) -> _Failure:
    """How far a request got that has no answer. Only what proves that no byte of it left counts as unsent."""
    causes = list(_causes(error))
    # The certificate is checked before the request is written.
    if any(
        type(cause).__name__ in _NO_CONNECTION or isinstance(cause, ssl.SSLCertVerificationError) for cause in causes
    ):
        return _Failure(Transport.UNSENT, f"no connection to the exchange ({_in_safe_words(causes)})")
    return _Failure(Transport.LOST, f"no complete answer from the exchange ({_in_safe_words(causes)})")


# By name, so that nothing of requests is imported before it is needed: urllib3's errors of connecting, by subclass.
_NO_CONNECTION = frozenset({"ConnectTimeout", "ConnectTimeoutError", "NewConnectionError", "NameResolutionError"})


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what the libraries wrapped: as a reason, an argument or a cause; outermost first."""
    for _ in range(10):
        if error is None:
            return
        yield error
        wrapped = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((inner for inner in wrapped if isinstance(inner, BaseException)), None)


def _in_safe_words(causes: list[BaseException]) -> str:
    """The innermost error's kind and the system's own words; the libraries' texts hold the signed URL."""
    root = causes[-1]
    words = root.strerror if isinstance(root, OSError) and isinstance(root.strerror, str) else ""
    return f"{type(root).__name__}: {words}" if words else type(root).__name__


_SIGNATURE = re.compile(r"""(signature["']?\s*[=:]\s*["']?)[A-Za-z0-9%+/=_-]+""", re.IGNORECASE)


def _counts(headers: Mapping[str, str]) -> dict[str, int]:
    """The exchange's own counts of what this address and account have used."""
    return {
        name.lower(): int(value)
        for name, value in headers.items()
        if name.lower().startswith(("x-mbx-used-weight-", "x-mbx-order-count-")) and value.isdecimal()
    }


def _nothing(*_: object) -> None:
    """Stands in for ccxt's parser and judge."""


def cleaned(text: str, secrets: tuple[str, ...]) -> str:
    """A foreign text fit for logs and records: no credential, no signature, no control character, not long."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _SIGNATURE.sub(r"\1***", text)
    return "".join(letter if letter.isprintable() else " " for letter in text)[:500].strip()


def parsed(content: bytes | str) -> Any:
    """JSON with its decimals left as text; ValueError for anything that is not JSON, NaN and Infinity included."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    text = content.decode("utf-8") if isinstance(content, bytes) else content
    return json.loads(text, parse_float=str, parse_constant=refuse)


def error_object(body: Any) -> tuple[int | None, str]:
    """Code and text of `{"code": -1013, "msg": "..."}`; a body of another shape has no code."""
    if not isinstance(body, dict):
        return None, ""
    code, message = body.get("code"), body.get("msg")
    return (
        code if isinstance(code, int) and not isinstance(code, bool) else None,
        message if isinstance(message, str) else "",
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header; None where it is absent or no plain number."""
    value = headers.get("Retry-After", "").strip()
    return float(value) if re.fullmatch(r"[0-9]{1,9}", value) else None
