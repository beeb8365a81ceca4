"""Build the documented refusals: code, text and HTTP status.

The texts come from the documentation. Where it prints only a name, the text is the one that clients
know.
"""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """Signal a refusal with a documented code.

    `status` is the HTTP status, which the WebSocket API uses as well.
    """

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: int = 400,
        retry_after_ms: int | None = None,
        data: dict[str, Any] | None = None,
        before_engine: bool = True,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_ms = retry_after_ms
        self.data = data
        self.before_engine = before_engine


SYMBOL_RANGE = r"^[\w\-._&&[^a-z]]{1,50}$"
SYMBOLS_RANGE = r'^\[("[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}){0,1}\]$'
INTEGER_RANGE = "^[0-9]{1,20}$"
DECIMAL_RANGE = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"
CLIENT_ID_RANGE = "^[a-zA-Z0-9-_]{1,36}$"
RECV_WINDOW_RANGE = r"^([0-9]{1,20})(\.[0-9]{1,3})?$"


def illegal_characters(name: str, legal: str) -> ApiError:
    return ApiError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'."
    )


def too_many_parameters(expected: int, received: int) -> ApiError:
    return ApiError(-1101, f"Too many parameters; expected '{expected}' and received '{received}'.")


def duplicate_values() -> ApiError:
    return ApiError(-1101, "Duplicate values for a parameter detected.")


def missing(name: str) -> ApiError:
    return ApiError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def one_of_two(first: str, second: str) -> ApiError:
    return ApiError(-1102, f"Param '{first}' or '{second}' must be sent, but both were empty/null!")


def unread(read: int, sent: int) -> ApiError:
    return ApiError(
        -1104,
        f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'.",
    )


def empty(name: str) -> ApiError:
    return ApiError(-1105, f"Parameter '{name}' was empty.")


def overflowed(name: str) -> ApiError:
    return ApiError(-1108, f"Parameter '{name}' overflowed.")


def too_precise(name: str) -> ApiError:
    return ApiError(-1111, f"Parameter '{name}' has too much precision.")


def invalid_data(name: str) -> ApiError:
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def bad_combination() -> ApiError:
    return ApiError(-1128, "Combination of optional parameters invalid.")


def invalid_json(name: str | None = None) -> ApiError:
    return ApiError(
        -1135, f"JSON sent for parameter '{name}' is not valid" if name else "Invalid JSON Request"
    )


def outside_recv_window() -> ApiError:
    return ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


def ahead_of_server() -> ApiError:
    return ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")


def bad_signature() -> ApiError:
    return ApiError(-1022, "Signature for this request is not valid.")


def bad_key_format() -> ApiError:
    return ApiError(-2014, "API-key format invalid.", status=401)


def rejected_key() -> ApiError:
    return ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)


def no_such_order() -> ApiError:
    return ApiError(-2013, "Order does not exist.")


def unknown_order(code: int = -2011) -> ApiError:
    return ApiError(code, "Unknown order sent.")


def unsupported_operation() -> ApiError:
    return ApiError(-1020, "This operation is not supported.")


def timeout() -> ApiError:
    return ApiError(
        -1007,
        "Timeout waiting for response from backend server. "
        "Send status unknown; execution status unknown.",
        status=504,
    )
