"""Parse the arguments of a message into a well-formed intent, or name the field that is wrong.

Pure. The transaction that records the order checks later that the account and the symbol exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from exchanges.types import (
    LIMIT_TYPES,
    STOP_TYPES,
    TIME_IN_FORCE_TYPES,
    OrderType,
    Side,
    TimeInForce,
    plain,
)
from orders.amounts import AMOUNTS, OrderAmounts

FIELDS = (
    "intent_id",
    "account",
    "symbol",
    "side",
    "order_type",
    "quantity",
    "quote_quantity",
    "price",
    "stop_price",
    "time_in_force",
    "strategy",
    "submitted_at",
    "place_within_seconds",
)
REQUIRED = FIELDS[:5]
MAX_PLACE_WITHIN_SECONDS = 86_400
MAX_FUTURE = timedelta(seconds=60)

_INTENT_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_ACCOUNT = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?", re.ASCII)
Member = TypeVar("Member", Side, OrderType, TimeInForce)

_RESERVED_PREFIXES = ("external:", "recovered:")


class InvalidIntent(ValueError):
    """The arguments are malformed. `field` is the one at fault. Nothing was recorded or sent."""

    def __init__(self, message: str) -> None:
        # One argument, so that Celery's JSON result round-trips it.
        super().__init__(message)

    @property
    def field(self) -> str:
        return str(self.args[0]).partition(":")[0]


class IntentConflict(InvalidIntent):
    """The intent id is known with other arguments. Nothing was changed."""


def invalid(field: str, problem: str) -> InvalidIntent:
    """Return the error for one field. Its message is `field: problem`."""
    return InvalidIntent(f"{field}: {problem}")


# The strategy of an order that a person placed by hand is this prefix and the name of the person.
BY_HAND = "person:"
HAND_PREFIX = "hand-"  # of the intent IDs of these orders


@dataclass(frozen=True, slots=True)
class Intent:
    """The order that a caller wants, normalized. Equal intents under one id are the same order."""

    intent_id: str
    account: str
    symbol: str
    amounts: OrderAmounts
    strategy: str = ""
    submitted_at: datetime | None = None
    place_within: timedelta | None = None


# The amounts that make intents the same, after the symbol. Strategy and times don't count.
COMPARED = ("side", "order_type", *AMOUNTS, "time_in_force")


def unknown_argument(name: Any) -> InvalidIntent:
    """Return the error about an unknown argument. It names it even if it is empty."""
    return invalid(str(name)[:64].strip() or repr(name)[:64], "unknown argument")


def parse_intent(arguments: Mapping[str, Any], *, now: datetime) -> Intent:
    """Parse the arguments of `orders.submit_order`. Raises `InvalidIntent`."""
    for name in arguments:
        if name not in FIELDS:
            raise unknown_argument(name)
    for name in REQUIRED:
        if arguments.get(name) is None:
            raise invalid(name, "is missing")
    order_type = _member(OrderType, "order_type", arguments["order_type"])
    intent = Intent(
        intent_id=parse_intent_id(arguments["intent_id"]),
        account=parse_account(arguments["account"]),
        symbol=_symbol(arguments["symbol"]),
        amounts=OrderAmounts(
            side=_member(Side, "side", arguments["side"]),
            order_type=order_type,
            **{name: _decimal(name, arguments.get(name)) for name in AMOUNTS},
            time_in_force=_time_in_force(order_type, arguments.get("time_in_force")),
        ),
        strategy=_strategy(arguments.get("strategy")),
        submitted_at=_submitted_at(arguments.get("submitted_at"), now),
        place_within=_place_within(arguments.get("place_within_seconds")),
    )
    _check_shape(intent.amounts)
    return intent


def bind_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], *, fields: tuple[str, ...] = FIELDS
) -> dict[str, Any]:
    """Merge a message's positional and named arguments.

    Raises `InvalidIntent` if they don't fit.
    """
    if len(args) > len(fields):
        raise invalid(
            "arguments", f"{len(args)} positional arguments, at most {len(fields)} are known"
        )
    bound = dict(zip(fields, args, strict=False))
    for name, value in kwargs.items():
        if name in bound:
            raise invalid(name, "given twice")
        bound[name] = value
    return bound


def parse_known_intent_id(value: Any) -> str:
    """Parse the id of an existing order: ours, or one that was found at the exchange."""
    text = _text("intent_id", value)
    if not _INTENT_ID.fullmatch(text):
        raise invalid("intent_id", f"{_shown(value)} is not 1 to 64 of A-Z a-z 0-9 _ . : -")
    return text


def parse_intent_id(value: Any) -> str:
    """Parse the id of a new intent, which must not begin with a reserved prefix."""
    text = parse_known_intent_id(value)
    if text.startswith(_RESERVED_PREFIXES):
        raise invalid(
            "intent_id", f"{_shown(value)} has a prefix reserved for orders found at the exchange"
        )
    return text


def parse_account(value: Any) -> str:
    """Parse the name of an account. It need not exist."""
    text = _text("account", value)
    if not _ACCOUNT.fullmatch(text):
        raise invalid("account", f"{_shown(value)} is not an account name")
    return text


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise invalid(field, f"expected text, got {type(value).__name__}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _member(kind: type[Member], field: str, value: Any) -> Member:
    text = _text(field, value)
    try:
        return kind(text)
    except ValueError:
        raise invalid(field, f"{_shown(value)} is not one of {', '.join(kind)}") from None


def _symbol(value: Any) -> str:
    text = _text("symbol", value).replace("/", "", 1).upper()
    if not text or len(text) > 32 or not text.isprintable() or any(c.isspace() for c in text):
        raise invalid("symbol", f"{_shown(value)} is not a symbol such as BTCUSDT")
    return text


def _decimal(field: str, value: Any) -> Decimal | None:
    if value is None:
        return None
    if isinstance(value, bool | int | float):
        raise invalid(
            field, f"expected a decimal as text, got {type(value).__name__} {_shown(value)}"
        )
    text = _text(field, value)
    if not _DECIMAL.fullmatch(text):
        raise invalid(
            field,
            f"{_shown(value)} is not a decimal without a sign, with up to 20 digits before the"
            " point and 18 after it",
        )
    number = Decimal(text)
    if number == 0:
        raise invalid(field, "must be greater than zero")
    return number


def _time_in_force(order_type: OrderType, value: Any) -> TimeInForce | None:
    if order_type not in TIME_IN_FORCE_TYPES:
        if value is not None:
            raise invalid("time_in_force", f"is not used by {order_type}")
        return None
    return TimeInForce.GTC if value is None else _member(TimeInForce, "time_in_force", value)


def _strategy(value: Any) -> str:
    text = _text("strategy", "" if value is None else value)
    if len(text) > 64 or (text and not text.isprintable()):
        raise invalid("strategy", "expected at most 64 printable characters")
    if text.startswith(BY_HAND):
        raise invalid("strategy", f"{BY_HAND} marks orders that people place by hand")
    return text


def parse_note(field: str, value: Any, *, longest: int) -> str:
    """Parse a text for the record. It may have line breaks.

    A database stores neither NUL nor half a surrogate pair.
    """
    text = _text(field, value)
    if len(text) > longest or not "".join(text.split()).isprintable():
        raise invalid(field, f"expected at most {longest} printable characters")
    return text


def _submitted_at(value: Any, now: datetime) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        moment = value
    else:
        try:
            moment = datetime.fromisoformat(_text("submitted_at", value))
        except ValueError:
            raise invalid(
                "submitted_at", f"{_shown(value)} is not an ISO 8601 time with a time zone"
            ) from None
    if moment.tzinfo is None:
        raise invalid("submitted_at", f"{_shown(value)} has no time zone")
    if moment > now + MAX_FUTURE:
        raise invalid("submitted_at", f"{_shown(value)} is in the future")
    return moment


def _place_within(value: Any) -> timedelta | None:
    if value is None:
        return None
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid("place_within_seconds", f"expected a number of seconds, got {_shown(value)}")
    if not 0 < value <= MAX_PLACE_WITHIN_SECONDS:  # NaN fails this, too
        raise invalid(
            "place_within_seconds",
            f"{_shown(value)} is not between 0 and {MAX_PLACE_WITHIN_SECONDS}",
        )
    return timedelta(seconds=value)


def _check_shape(amounts: OrderAmounts) -> None:
    """Check that the order has the amounts that its type needs, and no others."""
    kind = amounts.order_type
    if kind is OrderType.MARKET:
        if amounts.quantity is None and amounts.quote_quantity is None:
            raise invalid("quantity", "is missing: MARKET needs quantity or quote_quantity")
        if amounts.quantity is not None and amounts.quote_quantity is not None:
            raise invalid(
                "quote_quantity",
                "is not allowed: MARKET needs quantity or quote_quantity, not both",
            )
    else:
        _need("quantity", amounts.quantity, kind, needed=True)
        _need("quote_quantity", amounts.quote_quantity, kind, needed=False)
    _need("price", amounts.price, kind, needed=kind in LIMIT_TYPES)
    _need("stop_price", amounts.stop_price, kind, needed=kind in STOP_TYPES)


def _need(field: str, value: Decimal | None, kind: OrderType, *, needed: bool) -> None:
    if needed and value is None:
        raise invalid(field, f"is missing: {kind} needs it")
    if not needed and value is not None:
        raise invalid(field, f"{plain(value)} is not allowed: {kind} has none")
