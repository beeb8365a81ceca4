"""Find orders by any of their IDs or its beginning, with one query of index look-ups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from uuid import UUID

from django.db import connection

MAX_WORDS = 20
MAX_FOUND = 500
MIN_PREFIX = 3
#: An order's ID begins with its time, so fewer digits would name all orders of some weeks.
MIN_UUID_PREFIX = 8
LONGEST_ID = 64
#: In byte order, every text that starts with a word is below the word and this.
_LAST_CHARACTER = "\U0010ffff"
#: And only the word itself is below the word and this.
_FIRST_CHARACTER = "\x01"

# `pair` steps from one traded pair of account and symbol to the next, one probe each.
# Each branch walks one unique index between two texts: by account, or by account and symbol. The
# columns have the collation "C", so the indexes are in byte order. A word's own text comes first,
# so the limit never cuts an exact match.
_FIND = """
WITH RECURSIVE
word AS (SELECT * FROM unnest(%(words)s::text[], %(ends)s::text[]) AS w(text, ending)),
account AS (SELECT id FROM exchanges_exchangeaccount
             WHERE %(accounts)s::bigint[] IS NULL OR id = ANY(%(accounts)s::bigint[])),
pair AS (
  (SELECT account_id, symbol FROM orders_exchangeorder WHERE exchange_order_id <> ''
    ORDER BY account_id, symbol LIMIT 1)
  UNION ALL
  SELECT following.* FROM pair, LATERAL (
    SELECT e.account_id, e.symbol FROM orders_exchangeorder e
     WHERE (e.account_id, e.symbol) > (pair.account_id, pair.symbol) AND e.exchange_order_id <> ''
     ORDER BY e.account_id, e.symbol LIMIT 1) AS following),
traded AS (SELECT pair.* FROM pair JOIN account ON account.id = pair.account_id)
SELECT word.text, hit.order_id, hit.id = word.text FROM word, account, LATERAL (
  SELECT o.id AS order_id, o.intent_id AS id FROM orders_order o
   WHERE o.account_id = account.id
     AND o.intent_id >= word.text AND o.intent_id < word.ending
   ORDER BY o.intent_id LIMIT %(limit)s) AS hit
UNION ALL
SELECT word.text, hit.order_id, hit.id = word.text FROM word, account, LATERAL (
  SELECT e.order_id, e.client_order_id AS id FROM orders_exchangeorder e
   WHERE e.account_id = account.id
     AND e.client_order_id >= word.text AND e.client_order_id < word.ending
   ORDER BY e.client_order_id LIMIT %(limit)s) AS hit
UNION ALL
SELECT word.text, hit.order_id, hit.id = word.text FROM word, traded, LATERAL (
  SELECT e.order_id, e.exchange_order_id AS id FROM orders_exchangeorder e
   WHERE e.account_id = traded.account_id AND e.symbol = traded.symbol
     AND e.exchange_order_id >= word.text AND e.exchange_order_id < word.ending
     AND e.exchange_order_id <> ''
   ORDER BY e.exchange_order_id LIMIT %(limit)s) AS hit
UNION ALL
SELECT word.text, hit.order_id, hit.id = word.text FROM word, traded, LATERAL (
  SELECT f.order_id, f.trade_id AS id FROM orders_fill f
   WHERE f.account_id = traded.account_id AND f.symbol = traded.symbol
     AND f.trade_id >= word.text AND f.trade_id < word.ending
   ORDER BY f.trade_id LIMIT %(limit)s) AS hit
UNION ALL
SELECT range.text, hit.id, true
  FROM unnest(%(uuid_words)s::text[], %(lowest)s::uuid[], %(highest)s::uuid[])
    AS range(text, lowest, highest), LATERAL (
  SELECT o.id FROM orders_order o
   WHERE o.id BETWEEN range.lowest AND range.highest
     AND (%(accounts)s::bigint[] IS NULL OR o.account_id = ANY(%(accounts)s::bigint[]))
   LIMIT %(limit)s) AS hit
"""


def find_orders(text: str, *, accounts: Iterable[int] | None) -> set[UUID]:
    """Return the primary keys of the orders that any of the words names, at most `MAX_FOUND`.

    A word is an order ID, an intent ID, a client order ID, an exchange order ID or a trade ID, or
    its beginning. Spaces, commas or semicolons separate several words. A word that is an ID itself
    finds no longer ones, and neither does one shorter than `MIN_PREFIX`. Only orders of these
    accounts are found, or of all (None): an ID of another account must hide no order.
    """
    words = [word for word in re.split(r"[\s,;]+", text) if 0 < len(word) <= LONGEST_ID]
    words = list(dict.fromkeys(words))[:MAX_WORDS]
    if not words:
        return set()
    ranges = [found for word in words for found in _uuid_range(word)]
    parameters = {
        "words": words,
        "ends": [_end(word) for word in words],
        "accounts": None if accounts is None else list(accounts),
        "uuid_words": [word for word, _lowest, _highest in ranges],
        "lowest": [lowest for _word, lowest, _highest in ranges],
        "highest": [highest for _word, _lowest, highest in ranges],
        "limit": MAX_FOUND,
    }
    with connection.cursor() as cursor:
        cursor.execute(_FIND, parameters)
        rows = cursor.fetchall()
    exact = {word for word, _key, is_exact in rows if is_exact}
    found = {key for word, key, is_exact in rows if is_exact or word not in exact}
    return set(sorted(found, reverse=True)[:MAX_FOUND])  # IDs sort by time: keep the newest


def _end(word: str) -> str:
    """Return the upper end of the range of the word and, if it is long enough, its completions."""
    return word + (_LAST_CHARACTER if len(word) >= MIN_PREFIX else _FIRST_CHARACTER)


def _uuid_range(word: str) -> Iterator[tuple[str, UUID, UUID]]:
    """Yield the lowest and highest UUID that begin with the word, if it can begin one."""
    digits = word.replace("-", "").lower()
    if MIN_UUID_PREFIX <= len(digits) <= 32 and re.fullmatch(r"[0-9a-f]+", digits):
        yield word, UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
