"""Errors of calls to an exchange, named by the caller's duty.

    GatewayError
    ├── OutcomeUnknown   bytes may have left, no trustworthy answer came: keep the status, resolve
    ├── NotSent          certainly not executed, may be tried again             .retry_after
    ├── OrderRejected    certainly refused, final                               .code .message
    ├── OrderNotFound    the exchange does not know it at this moment: never a verdict by itself
    ├── DuplicateOrder   this client order id is open already: adopt the order, it is ours
    └── AccountError     key, permission or ban: halt the account, alert a person

Every error carries `code` and `http_status` (None where there is none) and `message`: the
exchange's own words without any credential. `binance.error_table` decides which error it is. An
answer that no row covers is `OutcomeUnknown`, so that an unforeseen answer is never taken for a
refusal. The errors of HTTP clients are never chained, because their texts hold signed URLs.
"""

from __future__ import annotations


class GatewayError(Exception):
    """A call to the exchange failed."""

    def __init__(
        self, message: str, *, code: int | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status

    def __str__(self) -> str:
        facts = [f"code {self.code}"] if self.code is not None else []
        facts += [f"HTTP {self.http_status}"] if self.http_status is not None else []
        return f"{self.message} ({', '.join(facts)})" if facts else self.message


class OutcomeUnknown(GatewayError):
    """The request may have been executed. Only the exchange knows.

    `was_answered`: the exchange answered a success in its own form, and only this one answer can't
    be read. So others may well be readable.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        http_status: int | None = None,
        was_answered: bool = False,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.was_answered = was_answered


def is_unanswered(error: Exception) -> bool:
    """Return True if the exchange gave no answer, so that it may be away for all questions."""
    return isinstance(error, OutcomeUnknown) and not error.was_answered


class NotSent(GatewayError):
    """The request was certainly not executed.

    `retry_after`: the seconds that the exchange wants us to wait, None if it named none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        http_status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, code=code, http_status=http_status)
        self.retry_after = retry_after


class OrderRejected(GatewayError):
    """The exchange refused the request, finally."""


class OrderNotFound(GatewayError):
    """The exchange does not know the order at this moment, which can be wrong right after
    placing.
    """


class DuplicateOrder(GatewayError):
    """An open order has this client order id already: an earlier attempt of ours reached it."""


class AccountError(GatewayError):
    """The key, its permissions or the account is refused: no call of this account will pass."""
