"""Show the JSON of events, breaks and the journal as people read it, and as text."""

from __future__ import annotations

from backoffice.desk.lists.columns import EMPTY, pretty

LONG = {"price": "2412.55", "message": {"side": "BUY"}, "quantity": "0.0618", "why": "x" * 60}


def test_pretty__keeps_short_json_on_one_line() -> None:
    assert pretty({"code": "-2010"}) == (
        '<pre class="desk-json">{&quot;code&quot;: &quot;-2010&quot;}</pre>'
    )
    assert pretty({}) == EMPTY


def test_pretty__folds_long_json_under_its_plain_fields() -> None:
    shown = pretty(LONG)
    assert shown.startswith('<details class="desk-fold"><summary>price 2412.55, quantity 0.0618,')
    assert "<dt>quantity</dt><dd>0.0618</dd>" in shown
    assert "<dt>message</dt><dd><pre" in shown
    assert "&quot;side&quot;: &quot;BUY&quot;" in shown


def test_pretty__shows_hostile_names_and_values_as_text() -> None:
    hostile = "<script>alert(1)</script>"
    shown = pretty({hostile: hostile, "nested": [hostile] * 4, "more": "x" * 60})
    assert "<script>" not in shown
    assert shown.count("&lt;script&gt;") >= 6
