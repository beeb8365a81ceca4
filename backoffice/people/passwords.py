"""Refuse passwords that look long but are guessed first: known words with an ending, or padding.

Django's own list holds the 20,000 most common passwords of published breaches. Nearly all are
shorter than our 12 characters, so people lengthen them. This looks behind the additions.
"""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

#: Words that an attacker who knows this site tries. Longer ones are taken out first.
CONTEXT = (
    *("backoffice", "administrator", "cryptocurrency", "tradingdesk"),
    *("password", "passwort", "binance", "bitcoin", "ethereum", "testnet", "trading", "trader"),
    *("exchange", "orders", "account", "welcome", "letmein", "changeme", "qwerty", "office"),
    *("crypto", "tether", "satoshi", "hodl", "admin", "secret", "пароль", "йцукен"),
)
#: So much must be left of a password without its known parts.
LEAST_UNKNOWN = 6
_LOOK_ALIKE = str.maketrans("@0$1!357", "aosiiest")
_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_REPEATED = re.compile(r"(.{1,4}?)\1{2,}")


class KnownPartsValidator:
    """Refuse a password that is a common one with additions, or little more than known words."""

    def __init__(self) -> None:
        self._common = CommonPasswordValidator().passwords

    def validate(self, password: str, user: Any = None) -> None:
        plain = password.casefold()
        for text in {plain, plain.translate(_LOOK_ALIKE)}:
            if _AROUND.sub("", text) in self._common or len(_unknown(text)) < LEAST_UNKNOWN:
                raise ValidationError(
                    _(
                        "This is a known password with additions."
                        " Choose words that are hard to guess."
                    ),
                    code="password_known_parts",
                )

    def get_help_text(self) -> str:
        return _("Your password can't be a known password or word with additions.")


def _unknown(text: str) -> str:
    """Return the letters and digits that are hard to guess: no known words, no repetitions."""
    for word in CONTEXT:
        text = text.replace(word, "")
    text = _REPEATED.sub(r"\1", text)
    text = re.sub(r"(19|20)\d\d|0?123456?7?8?9?0?|9?8?7?654321", "", text)
    return re.sub(r"[\W_]", "", text)
