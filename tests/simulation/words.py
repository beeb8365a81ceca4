"""Tell each step of a story in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

About = Mapping[str, Any]


def in_words(at: float, kind: str, about: About) -> str:
    """Return one line: the time of the step, and what happens."""
    return f"{at:7.2f} s  {_WORDS[kind](about)}"


def known_kinds() -> frozenset[str]:
    return frozenset(_WORDS)


def _order(about: About) -> str:
    return f"{about['intent_id']} of {about['account']}"


def _submit(about: About) -> str:
    price = f" at {about['price']}" if "price" in about else ""
    figures = f"{about['side']} {about['quantity']} {about['symbol']} {about['order_type']}{price}"
    way = "sends a message with" if about["way"] == "message" else "records"
    within = about.get("place_within_seconds")
    deadline = f", to be sent within {within} s" if within else ""
    is_dated = about.get("is_dated") and about["way"] == "message"
    since = " of its decision" if is_dated and within else ""
    return f"a bot {way} {_order(about)}: {figures}{deadline}{since}"


_CALL_FAULTS = {
    "lost after": "is executed, and its answer is lost",
    "lost before": "is lost on its way",
    "unsent": "can't be sent",
    "late request": "arrives {seconds:.0f} s late",
    "late engine": "waits {seconds:.0f} s for the engine",
    "late answer": "is executed, and its answer is {seconds:.0f} s late",
    "early answer": "is answered with HTTP {status}, and executed {seconds:.0f} s later",
    "answer": "is refused with HTTP {status} {text}",
    "wrong answer": "is executed, and answered with HTTP {status} {text}",
}


def _call_fault(about: About) -> str:
    values = {"seconds": 0.0, "status": "", "text": "", **about}
    call = about["call"] or "any call"
    what = _CALL_FAULTS[about["what"]].format(**values).rstrip()
    return f"the next request of {about['account']} ({call}) {what}"


def _stream_fault(about: About) -> str:
    what = {
        "drop": "is dropped",
        "double": "comes twice",
        "delay": f"is {about['seconds']} s late",
        "reset": "cuts the stream",
        "mute": f"and all others for {about['seconds']} s are dropped",
    }[about["what"]]
    return f"the next event of the stream of {about['account']} {what}"


def _message_fault(about: About) -> str:
    what = {
        "lose": "is lost",
        "double": f"comes twice, the second time {about['seconds']} s later",
        "delay": f"is {about['seconds']} s late",
    }[about["what"]]
    return f"the next message {about['task']} {what}"


def _halt(about: About) -> str:
    name = about["account"] or "everything"
    cancels = " and cancels all orders" if about["cancels"] else ""
    return f"a person halts {name}{cancels}, and resumes after {about['for']} s"


def _new_account(about: About) -> str:
    said = "".join(f"; {pause} s later {_submit(order)}" for pause, order in about["orders"])
    return f"a person adds the account {about['name']}{said}"


def _review(about: About) -> str:
    if about["verdict"] == "nothing":
        return f"a second person leaves {_order(about)} alone"
    verb = {"release": "releases", "reject": "rejects"}[about["verdict"]]
    return f"a second person {verb} {_order(about)}, {about['thinks']} s after seeing it held"


def _values(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _settings(about: About) -> str:
    values = _values(about["settings"])
    return f"{about['process']} ends, and starts {about['pause']} s later with {values}"


def _deploy(about: About) -> str:
    values = f" and {_values(about['settings'])}" if about["settings"] else ""
    return (
        f"a deploy ends the processes {about['how']}, runs a migration ({about['migration']}), and"
        f" starts each {about['pause']} s later with the new version{values}"
    )


def _overtaken(about: About) -> str:
    kept, lost = about["kept"], about["lost"]
    return (
        f"{_submit(kept)}. Its request is 3 s late. 1.1 s later {_submit(lost)}. A failover loses"
        f" the last order, and its bot repeats it {about['again']} s after the beginning"
    )


def _lost_and_forgotten(about: About) -> str:
    return (
        f"{_submit(about['lost'])}. A failover loses it {about['loses']} s later, and"
        f" {about['after']} s after that the bot, which forgets the rest, cancels it"
    )


def _silent_broker(about: About) -> str:
    orders = "; ".join(map(_submit, about["open"]))
    waiting = "; ".join(map(_submit, about["waiting"]))
    return (
        f"{orders}. 6 s later the broker is away for 20 s; {waiting}; and a person cancels the"
        f" first {len(about['open'])} orders on a page whose process ends at once"
    )


def _of_order(text: str) -> Callable[[About], str]:
    return lambda about: text.format(order=_order(about), **about)


def _plain(text: str) -> Callable[[About], str]:
    return lambda about: text.format(**about)


_WORDS: Mapping[str, Callable[[About], str]] = {
    "submit": _submit,
    "cancel": _of_order("a bot cancels {order}"),
    "fill": _of_order("the market fills {share:.0%} of {order}"),
    "limits": _plain("each account may have {open_orders} open orders"),
    "halt": _halt,
    "hand_order": _of_order("somebody places an order by hand at {account}"),
    "hand_cancel": _of_order("somebody cancels {order} by hand"),
    "hand_amend": _of_order("somebody amends {order} by hand"),
    "hand_reuse": _of_order("somebody places an order by hand with the client order ID of {order}"),
    "expire": _of_order("the exchange lets {order} expire"),
    "deposit": _plain("{account} gets a deposit"),
    "symbol_pause": _plain("{symbol} pauses for {for} s"),
    "call_fault": _call_fault,
    "crash": _plain("{process} is killed after {after} boundaries"),
    "crash_all": _plain("all processes are killed"),
    "message_fault": _message_fault,
    "stream_fault": _stream_fault,
    "cut_streams": _plain("all streams are cut"),
    "lag": _plain("the queries {kinds} lag by {seconds} s, for {for:.0f} s"),
    "lost_and_mute": _of_order("{order} loses its answer, and all streams are mute for {for} s"),
    "lost_and_amended": _of_order(
        "{order} loses its answer, all streams are mute, and somebody amends it by hand"
    ),
    "new_account": _new_account,
    "review_rule": _plain("a second person must release each order worth more than {above}"),
    "review": _review,
    "reset": _plain(
        "the exchange loses all orders and trades, and a person begins an epoch {after} s later"
    ),
    "clock_drift": _plain("the clock of {process} drifts by {rate} ms each second"),
    "claim_stop": _of_order(
        "the process that claims {order} stands still for {for} s before its commit"
    ),
    "halt_in_claim": _of_order(
        "the process that claims {order} stands still for {stops} s before its commit, and a person"
        " halts the account"
    ),
    "sender_stop": _of_order(
        "the process that claims {order} stands still for {for} s before its request leaves"
    ),
    "lost_in_flight": _of_order(
        "{order} waits {seconds:.0f} s for the engine, a failover loses the last {loses} s,"
        " and its bot repeats it {again} s later"
    ),
    "session_loss": _plain("{process} loses its session, {when} the statement"),
    "database_away": _plain("the database is away for {for} s"),
    "read_only": _plain("the database is read-only for {for} s"),
    "redis_away": _plain("Redis is away for {for} s"),
    "redis_flush": _plain("Redis is flushed"),
    "broker_away": _plain("the broker is away for {for} s"),
    "broker_flush": _plain("the broker loses all its messages"),
    "exchange_away": _plain("the exchange is away for {for} s"),
    "slow": _plain("the network is slow for {for} s"),
    "clock_step": _plain("the clock of {process} steps by {seconds} s, for 15 s"),
    "pause": _plain("{process} stands still for {for} s"),
    "stop": _plain("{process} stands still for {for} s, after {after} boundaries"),
    "symbol_rules": _plain("{symbol} gets the step {step} and the tick {tick}"),
    "symbol_gone": _plain("{symbol} is delisted, and comes back after {for} s"),
    "settings": _settings,
    "deploy": _deploy,
    "migration": _plain("a migration ({migration}) runs under the running processes"),
    "exchange_step": _plain("the clock of the exchange steps by {seconds} s"),
    "exchange_drift": _plain("the clock of the exchange drifts by {rate} ms each second"),
    "new_limit": _plain("{account} may have {open_orders} open orders from now on"),
    "redis_back": _plain("a replica of Redis takes over that lacks the last {loses} s"),
    "overtaken": _overtaken,
    "lost_and_forgotten": _lost_and_forgotten,
    "silent_broker": _silent_broker,
    "request_cancels": _plain("a person cancels all orders, and the page's process ends at once"),
    "key_refused": _plain("the exchange refuses the key of {account} for {for} s"),
    "new_rules": _plain("{symbol} gets the step {step} and the tick {tick}, for good"),
    "late_table": _plain("a restore brings the table {table} back {for} s after the others"),
    "failover": _plain("the database fails over, and loses its last {loses} s"),
}
