"""No index that every write pays for and another index already serves."""

from __future__ import annotations

import pytest
from django.db import connection

pytestmark = pytest.mark.django_db

# Plain B-trees without a condition, by their columns and how those compare.
DOUBLED = """
SELECT shorter.indexrelid::regclass::text, longer.indexrelid::regclass::text
  FROM pg_index shorter
  JOIN pg_index longer USING (indrelid)
  JOIN pg_class c ON c.oid = shorter.indrelid
 WHERE shorter.indexrelid <> longer.indexrelid
   AND c.relname ~ '^(orders|exchanges|desk|people)_'
   AND shorter.indpred IS NULL AND longer.indpred IS NULL AND NOT shorter.indisunique
   AND (longer.indkey::text || ' ') LIKE (shorter.indkey::text || ' %')
   AND (longer.indclass::text || ' ') LIKE (shorter.indclass::text || ' %')
   AND (longer.indcollation::text || ' ') LIKE (shorter.indcollation::text || ' %')
"""


def test_indexes__none_is_the_beginning_of_another() -> None:
    with connection.cursor() as cursor:
        cursor.execute(DOUBLED)
        assert "\n".join(map(str, cursor.fetchall())) == ""
