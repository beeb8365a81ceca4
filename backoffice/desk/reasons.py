"""Show a stored reason in the person's language.

Reasons are stored in English, with their figures, because bots, logs and exports read the same
text. A page recognizes the sentence by its form and says it in the language of the reader. Words of
the exchange and of people stay as they were written.
"""

from __future__ import annotations

import re
from functools import lru_cache

from django.utils import translation
from django.utils.translation import gettext_noop

# The sentences of the gate, the sweep and the sender. A field in braces takes any text.
SENTENCES = (
    # Permission and duties
    gettext_noop("all trading is halted: {reason}"),
    gettext_noop("the account is disabled"),
    gettext_noop("the account is halted: {reason}"),
    gettext_noop("the strategy {strategy} on {symbol} is halted by {who} since {since}: {reason}"),
    gettext_noop("the strategy {strategy} is halted by {who} since {since}: {reason}"),
    gettext_noop("{symbol} is halted by {who} since {since}: {reason}"),
    gettext_noop("a buy doesn't reduce a position, and the account is reduce-only: {reason}"),
    gettext_noop(
        "a sale on {symbol} buys {asset}, which isn't money, and the account is reduce-only: "
        "{reason}"
    ),
    gettext_noop("the {duty} of the account did not run for {age} s, at most {most} s are allowed"),
    # Instrument and filters
    gettext_noop("{symbol} is not known for this account's exchange"),
    gettext_noop("{symbol} has status {status}"),
    gettext_noop("{symbol} doesn't accept MARKET orders by quote quantity"),
    gettext_noop("{symbol} doesn't accept {order_type} orders"),
    gettext_noop("{name} {value} rounds to zero on the exchange's grid"),
    gettext_noop("{name} {value} is below the minimum {least}"),
    gettext_noop("{name} {value} is above the maximum {most}"),
    gettext_noop("{name} {value} is not a multiple of {step}"),
    # Limits
    gettext_noop("{symbol} is not one of the allowed symbols {symbols}"),
    gettext_noop("limits are set in {currencies}, but none in {asset} ({name})"),
    gettext_noop("no last trade on {symbol} is known to value the order"),
    gettext_noop("no last trade is known to compare the price with"),
    gettext_noop("the last trade is {age} s old, at most {most} s are allowed"),
    gettext_noop(
        "price {price} is {distance} % away from the last trade at {last}, at most {most} % are "
        "allowed"
    ),
    gettext_noop("{name} would be {value}, at most {most} are allowed"),
    gettext_noop(
        "today's commissions in {assets} have no price in {currency}, so today's realized loss of "
        "at least {loss} may be over the limit of {most}"
    ),
    gettext_noop("today's realized loss is {loss}, at most {most} are allowed"),
    # Balance
    gettext_noop("needs {amount} {asset}, but no balance is known yet"),
    gettext_noop("needs {amount} {asset}, but only {free} {unit} is free"),
    gettext_noop(
        "needs {amount} {asset}, but only {free} {unit} is free "
        "(the rest is reserved for orders in flight)"
    ),
    # Waiting
    gettext_noop("no last trade on {symbol} is known, so neither is the cost of a market order"),
    gettext_noop("the database went back in time, so the order waits until its past is read"),
    gettext_noop("another worker is changing the order"),
    gettext_noop("waits for {fact}"),
    gettext_noop("{fact} is still missing"),
    # Asking the gate
    gettext_noop("would be sent as {words}"),
    gettext_noop("would wait for a second person: {cause}"),
    # Second person
    gettext_noop("rule {rule} asks for a second person"),
    gettext_noop("rule {rule}: the order's value is unknown"),
    gettext_noop("rule {rule}: {value} is above {most}"),
    gettext_noop("nobody released it before the deadline {deadline}"),
    # Ends without a fill
    gettext_noop("not sent before the deadline {deadline}"),
    gettext_noop("canceled before it was sent"),
    gettext_noop("not found at the exchange, and a cancel was requested"),
    gettext_noop("no answer to the request, and not found at the exchange"),
)
# The figures, duties and facts that a sentence may be about.
NAMES = (
    gettext_noop("quantity"),
    gettext_noop("quote_quantity"),
    gettext_noop("price"),
    gettext_noop("stop_price"),
    gettext_noop("notional"),
    gettext_noop("open orders"),
    gettext_noop("orders in this second"),
    gettext_noop("orders today"),
    gettext_noop("notional today"),
    gettext_noop("position"),
    gettext_noop("identical orders"),
    gettext_noop("halt rules"),
    gettext_noop("sweep"),
    gettext_noop("balances"),
    gettext_noop("catch_up"),
    gettext_noop("fee_prices"),
    gettext_noop("identity"),
    gettext_noop("instruments"),
    gettext_noop("new_price"),
    gettext_noop("rules"),
    gettext_noop("symbol"),
    gettext_noop("sync"),
    gettext_noop("the symbol's rules"),
)
_TRANSLATED = frozenset({"name", "duty", "fact"})
# Fields with any text, such as a person's own words, and fields with one or more words. The others
# are a single word or figure.
_FREE = frozenset({"reason", "who", "strategy", "words", "cause"})
_WORDS = frozenset({"since", "most", "symbols", "currencies", "assets", "name", "duty", "fact"})


def shown_reason(text: str) -> str:
    """Return the reason in the active language, or as it is stored if its form is unknown."""
    if (translation.get_language() or "en").startswith("en"):
        return text
    for sentence, pattern in _patterns():
        if (found := pattern.fullmatch(text)) is not None:
            values = found.groupdict()
            return translation.gettext(sentence).format_map(
                {name: _shown(name, value) for name, value in values.items()}
            )
    return text


def _shown(name: str, value: str) -> str:
    if name == "cause":
        return shown_reason(value)
    return translation.gettext(value) if name in _TRANSLATED and value in NAMES else value


@lru_cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(sentence, re.compile(_pattern(sentence), re.DOTALL)) for sentence in SENTENCES]


def _pattern(sentence: str) -> str:
    parts = re.split(r"\{(\w+)\}", sentence)
    return "".join(_field(part) if odd % 2 else re.escape(part) for odd, part in enumerate(parts))


def _field(name: str) -> str:
    form = ".+?" if name in _FREE else r"\S+(?: [\w,:']+)*?" if name in _WORDS else r"\S+"
    return rf"(?P<{name}>{form})"
