"""Send one HTTP request through ccxt's client, and keep its answer or how far it got.

ccxt turns both into exceptions that neither keep them apart nor hide the signature. So `Wire` gives
ccxt a session that remembers them. This module knows nothing about orders.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from exchanges import clock
from exchanges.binance import retry_after
from exchanges.binance.error_table import Transport

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class HttpResult:
    """The result of one HTTP request.

    `message` is free of credentials. `code` is the code of the JSON error, if it was one. `counts`
    holds the exchange's X-MBX-* counts, by header in lower case.
    """

    transport: Transport
    message: str = ""
    status: int | None = None
    body: Any = None
    is_json: bool = False
    code: int | None = None
    retry_after: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class Sender(Protocol):
    """The part of a wire that a gateway needs. Tests have one without a network."""

    def send(self, method: str, parameters: dict[str, str]) -> HttpResult:
        """Send one request, at most once."""

    def cleaned(self, text: str) -> str:
        """Return a foreign text without credentials."""

    def close(self) -> None:
        """Close the connections."""


class Wire:
    """Send requests with one ccxt client, one thread at a time.

    Any object with ccxt's raw methods and a `session` will do as the client.
    """

    def __init__(
        self, client: Any, *, secrets: tuple[str, ...], read_timeout_seconds: float
    ) -> None:
        self._client = client
        self._secrets = secrets
        self._session = _Session(client.session, read_timeout_seconds)
        client.session = self._session
        # The answer is read below, once and exactly: ccxt must neither parse nor judge it.
        client.parse_json = _nothing
        client.handle_errors = _nothing

    def close(self) -> None:
        self._session.close()

    def send(self, method: str, parameters: dict[str, str]) -> HttpResult:
        """Send one request, at most once."""
        self._session.reset()
        problem = ""
        try:
            getattr(self._client, method)(parameters)
        except Exception as error:  # noqa: BLE001  the session knows how far the request got
            problem = type(error).__name__
        session = self._session
        if session.answer is not None:
            return self._answered(session.answer)
        if session.failure is not None:
            return HttpResult(session.failure.transport, session.failure.message)
        return HttpResult(Transport.UNSENT, f"the request could not be prepared ({problem})")

    def cleaned(self, text: str) -> str:
        return cleaned(text, self._secrets)

    def _answered(self, answer: _Answer) -> HttpResult:
        try:
            body = parsed(answer.content)
        except (ValueError, RecursionError):
            what = f"{answer.headers.get('Content-Type') or 'no type'}, {len(answer.content)} bytes"
            message = self.cleaned(f"HTTP {answer.status} with a body that is not JSON ({what})")
            return HttpResult(
                Transport.ANSWERED,
                message,
                answer.status,
                retry_after=_wait(answer),
                counts=_counts(answer.headers),
            )
        code, message = error_object(body)
        return HttpResult(
            Transport.ANSWERED,
            self.cleaned(message) or f"HTTP {answer.status} without an explanation",
            answer.status,
            body=body,
            is_json=True,
            code=code,
            retry_after=_wait(answer, code),
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
    """End ccxt's work on a request whose answer we have: it would read and judge it again."""


class _Session:
    """Replace requests' session below ccxt: one kept connection of urllib3, which says more.

    requests would take a third of the time that a call costs us, and follow redirects (a 307 or 308
    sends an order again). Connecting has a short timeout of its own, and the whole answer another.
    The answer, or the way it failed, is kept before ccxt sees it.
    """

    def __init__(self, session: requests.Session, read_timeout_seconds: float) -> None:
        import urllib3

        from exchanges.binance.timed_answers import timed_pool

        self._pool = timed_pool()
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=read_timeout_seconds)
        self.headers = session.headers
        self.cookies = session.cookies
        self.answer: _Answer | None = None
        self.failure: _Failure | None = None

    def reset(self) -> None:
        self.answer = self.failure = None

    def request(
        self, method: str, url: str, *, data: Any, headers: Mapping[str, str], **_: Any
    ) -> NoReturn:
        """Send like `requests.Session.request`, but never return: the answer is in `answer`."""
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
    """Return how far an unanswered request got. Only proof that no byte left counts as unsent."""
    causes = list(_causes(error))
    # The certificate is checked before the request is written.
    if any(
        type(cause).__name__ in _NO_CONNECTION or isinstance(cause, ssl.SSLCertVerificationError)
        for cause in causes
    ):
        return _Failure(
            Transport.UNSENT, f"no connection to the exchange ({_in_safe_words(causes)})"
        )
    return _Failure(
        Transport.LOST, f"no complete answer from the exchange ({_in_safe_words(causes)})"
    )


# urllib3's errors of connecting, by name: importing it is left to the first call.
_NO_CONNECTION = frozenset(
    {"ConnectTimeout", "ConnectTimeoutError", "NewConnectionError", "NameResolutionError"}
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and the ones that libraries wrapped in it, outermost first."""
    for _ in range(10):
        if error is None:
            return
        yield error
        wrapped = [getattr(error, "reason", None), *error.args, error.__cause__]
        error = next((inner for inner in wrapped if isinstance(inner, BaseException)), None)


def _in_safe_words(causes: list[BaseException]) -> str:
    """Return the innermost error's type and the system's words. Libraries quote the signed URL."""
    root = causes[-1]
    words = root.strerror if isinstance(root, OSError) and isinstance(root.strerror, str) else ""
    return f"{type(root).__name__}: {words}" if words else type(root).__name__


_SIGNATURE = re.compile(r"""(signature["']?\s*[=:]\s*["']?)[A-Za-z0-9%+/=_-]+""", re.IGNORECASE)


def _counts(headers: Mapping[str, str]) -> dict[str, int]:
    """Return the exchange's own counts of what this address and account have used."""
    return {
        name.lower(): int(value)
        for name, value in headers.items()
        if name.lower().startswith(("x-mbx-used-weight-", "x-mbx-order-count-"))
        and value.isdecimal()
    }


def _nothing(*_: object) -> None:
    """Replace ccxt's parser and judge."""


def cleaned(text: str, secrets: tuple[str, ...]) -> str:
    """Make a foreign text fit for logs and records.

    It holds no credential, no signature, no control character, and at most 500 characters.
    """
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _SIGNATURE.sub(r"\1***", text)
    return "".join(letter if letter.isprintable() else " " for letter in text)[:500].strip()


def parsed(content: bytes | str) -> Any:
    """Parse JSON, with decimals left as text. Raise ValueError for anything that is not JSON.

    A value that no JSON has (NaN, Infinity) is left as text, too, and a broken character is
    replaced: both cost only the row that they are in.
    """
    text = content.decode("utf-8-sig", "replace") if isinstance(content, bytes) else content
    message = json.loads(text, parse_float=str, parse_constant=str)
    return _storable(message) if _UNSTORABLE_ESCAPE.search(text) else message


# PostgreSQL stores neither a NUL nor half of a surrogate pair.
_UNSTORABLE_ESCAPE = re.compile(r"\\u(0000|[dD][89a-fA-F])")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _storable(message: Any) -> Any:
    """Return the message with a space in place of each character that no column takes."""
    if isinstance(message, str):
        return _UNSTORABLE.sub(" ", message)
    if isinstance(message, list):
        return [_storable(item) for item in message]
    if isinstance(message, dict):
        return {_storable(name): _storable(value) for name, value in message.items()}
    return message


def error_object(body: Any) -> tuple[int | None, str]:
    """Return code and text of `{"code": -1013, "msg": "..."}`. Other bodies have no code."""
    if not isinstance(body, dict):
        return None, ""
    code, message = body.get("code"), body.get("msg")
    return (
        code if isinstance(code, int) and not isinstance(code, bool) else None,
        message if isinstance(message, str) else "",
    )


def _wait(answer: _Answer, code: int | None = None) -> float | None:
    seconds = retry_after.seconds_of(answer.headers.get("Retry-After", ""), clock.now())
    return retry_after.bounded(seconds, status=answer.status, code=code)
