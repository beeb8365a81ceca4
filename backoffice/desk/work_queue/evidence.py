"""Show the evidence of a break side by side: our figure, theirs, and whether they differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from orders.models import BreakKind, ReconciliationBreak

_PAIR = re.compile(r"ours (?P<ours>.*), theirs (?P<theirs>.*)", re.DOTALL)
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Evidence:
    """One field of both sides. An empty side is unknown, not zero."""

    field: Any
    ours: str
    theirs: str

    @property
    def differs(self) -> bool:
        return bool(self.ours and self.theirs and self.ours != self.theirs)


def evidence_of(row: ReconciliationBreak) -> list[Evidence]:
    """Return the break's details as pairs, with the figures of its order first."""
    return list(_pairs(row))


def _pairs(row: ReconciliationBreak) -> Iterator[Evidence]:
    details = row.details if isinstance(row.details, dict) else {"": row.details}
    if row.kind == BreakKind.BALANCE_MISMATCH and "by open orders" in details:
        yield Evidence(
            _("locked"), str(details["by open orders"]), str(details.get("by the exchange", ""))
        )
        return
    if row.kind == BreakKind.FILL_GAP and {"fills", "filled"} <= details.keys():
        yield Evidence(_("filled quantity"), str(details["fills"]), str(details["filled"]))
        return
    if {"ours", "theirs"} <= details.keys():  # one of our IDs at another order
        yield Evidence(_("client order ID"), str(details["ours"]), str(details["theirs"]))
        details = {name: details[name] for name in details if name not in ("ours", "theirs")}
    for name, value in details.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        pair = _PAIR.fullmatch(text)
        if pair:
            yield Evidence(_named(name), pair["ours"], pair["theirs"])
        else:
            yield Evidence(_named(name), "", text[:_LONGEST])


def _named(name: str) -> str:
    """Return the words for a name of a detail. The rare ones stay as they are stored."""
    words = {"number": _("exchange order ID"), "symbol": _("symbol")}
    return words.get(name, name)
