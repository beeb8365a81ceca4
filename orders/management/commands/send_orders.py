"""Enqueues the orders of a file and, if asked to, follows them until the exchange has answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.core.management.base import BaseCommand, CommandError, CommandParser
from kombu.exceptions import OperationalError as BrokerError

from exchanges import clock
from exchanges.models import ExchangeAccount
from orders.claims import require_same_intent
from orders.intents import Intent, InvalidIntent, invalid, parse_intent
from orders.management.following import Key, chunks, follow, summary
from orders.management.order_file import BadFile, Line, read_order_file
from orders.management.shell import account_named, one_line_errors
from orders.models import Order
from orders.tasks import submit_order

_BAR_WIDTH = 30
_CHUNK = 500


class Command(BaseCommand):
    help = (
        "Enqueue the orders of a CSV or JSON Lines file; its columns are the arguments of orders.submit_order, an empty"
        " cell is an absent argument. Sending the same file again is safe: an intent id places one order for ever."
        " An order that cannot be sent within PLACE_WITHIN_SECONDS (or its place_within_seconds) is not sent."
        " Exit status 1 if any line was bad, 2 if the broker does not answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument("--account", help="for lines that name none; default: the only enabled account")
        parser.add_argument(
            "--wait", action="store_true", help="follow the orders until they are acknowledged or closed, then sum up"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with one_line_errors():
            self._send(options["file"], options["account"], wait=options["wait"])

    def _send(self, path: Path, account: str | None, *, wait: bool) -> None:
        started_at = clock.monotonic()
        try:
            lines = read_order_file(path)
        except BadFile as error:
            raise CommandError(f"{path}: {error}") from None
        _fill_in_account(lines, account)
        check_lines(lines)
        good = [line for line in lines if not line.problem]
        self._name_bad_lines(path, lines)
        self._enqueue(good)
        self._name_bad_lines(path, good)  # eager mode finds some only now
        bad = sum(bool(line.problem) for line in lines)
        self.stdout.write(f"{len(lines) - bad} of {_orders(len(lines))} enqueued.")
        unsettled = self._follow([line for line in good if not line.problem], started_at) if wait else 0
        if bad:
            raise CommandError(f"{bad} of {len(lines)} lines bad: not sent")
        if unsettled:
            raise CommandError(f"{_orders(unsettled)} not acknowledged yet")

    def _name_bad_lines(self, path: Path, lines: list[Line]) -> None:
        for line in lines:
            if line.problem:
                self.stderr.write(f"{path} line {line.number}: {line.problem}")

    def _enqueue(self, lines: list[Line]) -> None:
        done = 0
        for line in lines:
            self._progress("enqueued", done, len(lines))
            # The moment of the decision: a message that has waited too long for a worker is not sent to the exchange.
            arguments = {"submitted_at": clock.now().isoformat(), **line.arguments}
            try:
                submit_order.apply_async(kwargs=arguments)
            except InvalidIntent as error:  # in eager mode the task's own errors arrive here
                line.problem = str(error)
            except BrokerError:
                self._progress("enqueued", done, len(lines), end=True)
                raise CommandError(
                    f"the broker {_broker_address()} does not answer: {done} of {_orders(len(lines))} enqueued. Send"
                    " the file again when it does; an intent that is known already is not placed twice.",
                    returncode=2,
                ) from None
            done += 1
        self._progress("enqueued", done, len(lines), end=True)

    def _follow(self, lines: list[Line], started_at: float) -> int:
        numbers = {_key(line): line.number for line in lines}
        states = follow(list(numbers), lambda settled: self._progress("acknowledged or closed", settled, len(numbers)))
        settled = sum(seen.is_settled for seen in states.values())
        self._progress("acknowledged or closed", settled, len(numbers), end=True)
        seconds = clock.monotonic() - started_at
        self.stdout.write(f"{settled} of {_orders(len(numbers))} acknowledged or closed after {seconds:.1f} s:\n\n")
        self.stdout.write("\n".join(summary(states, numbers)))
        return len(states) - settled

    def _progress(self, what: str, done: int, total: int, *, end: bool = False) -> None:
        """A bar that is drawn over itself; on a terminal only."""
        if not self.stderr.isatty() or not total:
            return
        filled = "#" * (_BAR_WIDTH * done // total)
        self.stderr.write(f"\r[{filled:.<{_BAR_WIDTH}}] {done}/{total} {what}", _unstyled, "\n" if end else "")
        self.stderr.flush()


def _unstyled(text: str) -> str:
    return text


def _orders(count: int) -> str:
    return "1 order" if count == 1 else f"{count} orders"


def _key(line: Line) -> Key:
    return line.arguments["account"], line.arguments["intent_id"]


def _broker_address() -> str:
    parts = urlsplit(current_app.conf.broker_url or "")  # without its password
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


# -- what can be known of a line before it is sent -----------------------------------------------------------------


def _fill_in_account(lines: list[Line], name: str | None) -> None:
    """Lines without an account get the one that was named, or the only enabled one."""
    if name is not None:
        account_named(name)
    without = [line for line in lines if not line.problem and "account" not in line.arguments]
    if without and name is None:
        name = _only_account()
    for line in without:
        line.arguments["account"] = name


def _only_account() -> str:
    names = list(ExchangeAccount.objects.filter(is_enabled=True).values_list("name", flat=True))
    if len(names) != 1:
        known = ", ".join(names) or "none"
        raise CommandError(f"say with --account which account the orders are for; enabled: {known}")
    return names[0]


def check_lines(lines: list[Line]) -> None:
    """Write into each line what is wrong with it: its form, its account, its intent id used before."""
    now, intents = clock.now(), list[tuple[Line, Intent]]()
    accounts = set(ExchangeAccount.objects.values_list("name", flat=True))
    first_lines: dict[Key, int] = {}
    for line in lines:
        if line.problem:
            continue
        try:
            intent = parse_intent(line.arguments, now=now)
            if intent.account not in accounts:
                raise invalid("account", f"there is no account named {intent.account!r}")
            first = first_lines.setdefault((intent.account, intent.intent_id), line.number)
            if first != line.number:
                raise invalid("intent_id", f"{intent.intent_id!r} stands in line {first} already")
        except InvalidIntent as error:
            line.problem = str(error)
        else:
            intents.append((line, intent))
    for part in chunks(intents, _CHUNK):
        _check_conflicts(part)


def _check_conflicts(intents: list[tuple[Line, Intent]]) -> None:
    """An intent id that our book knows with other arguments can never be placed as this line says."""
    rows = Order.objects.filter(intent_id__in={intent.intent_id for _, intent in intents}).select_related("account")
    known = {(order.account.name, order.intent_id): order for order in rows}
    for line, intent in intents:
        order = known.get((intent.account, intent.intent_id))
        try:
            if order is not None:
                require_same_intent(order, intent)
        except InvalidIntent as error:
            line.problem = str(error)
