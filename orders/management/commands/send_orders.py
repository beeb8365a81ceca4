"""Enqueue the orders of a file, and with --wait follow them until the exchange has answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.core.management.base import BaseCommand, CommandError, CommandParser
from kombu.exceptions import OperationalError as BrokerError

from exchanges import clock
from exchanges.checks import refuse_danger
from exchanges.models import ExchangeAccount
from orders.intents import Intent, InvalidIntent, invalid, parse_intent
from orders.management.helpers import account_named, one_line_errors
from orders.management.order_file import BadFile, Line, read_order_file
from orders.management.watch import Key, chunks, follow, summary
from orders.models import Order
from orders.placing.intent_order import require_same_intent
from orders.tasks import submit_order

_BAR_WIDTH = 30
_CHUNK = 500


class Command(BaseCommand):
    help = (
        "Enqueue the orders of a CSV or JSON Lines file. Its columns are the arguments of"
        " orders.submit_order, and an empty cell is an absent argument. Sending the file again is"
        " safe, because an intent ID places one order only. An order that can't be sent within"
        " PLACE_WITHIN_SECONDS (or its place_within_seconds) is not sent. Exit status 1 if any line"
        " was bad, 2 if the broker doesn't answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", type=Path)
        parser.add_argument(
            "--account", help="account of lines without one. Default: the only enabled account"
        )
        parser.add_argument(
            "--wait",
            action="store_true",
            help="follow the orders until they are acknowledged or closed, then print a summary",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_danger()
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
        self._name_bad_lines(path, good)  # Eager mode finds some only now.
        bad = sum(bool(line.problem) for line in lines)
        self.stdout.write(f"{len(lines) - bad} of {_orders(len(lines))} enqueued.")
        unanswered = (
            self._follow([line for line in good if not line.problem], started_at) if wait else 0
        )
        if bad:
            raise CommandError(f"{bad} of {len(lines)} lines are bad and were not sent")
        if unanswered:
            raise CommandError(f"{_orders(unanswered)} not acknowledged yet")

    def _name_bad_lines(self, path: Path, lines: list[Line]) -> None:
        for line in lines:
            if line.problem:
                self.stderr.write(f"{path} line {line.number}: {line.problem}")

    def _enqueue(self, lines: list[Line]) -> None:
        done = 0
        for line in lines:
            self._progress("enqueued", done, len(lines))
            # The time of the decision: a message that waits too long for a worker is not sent.
            arguments = {"submitted_at": clock.now().isoformat(), **line.arguments}
            try:
                submit_order.apply_async(kwargs=arguments)
            except InvalidIntent as error:  # In eager mode the task's errors arrive here.
                line.problem = str(error)
            except BrokerError:
                self._progress("enqueued", done, len(lines), end=True)
                raise CommandError(
                    f"the broker {_broker_address()} does not answer: {done} of"
                    f" {_orders(len(lines))} enqueued. Send the file again when it does; an intent"
                    " that is known already is not placed twice.",
                    returncode=2,
                ) from None
            done += 1
        self._progress("enqueued", done, len(lines), end=True)

    def _follow(self, lines: list[Line], started_at: float) -> int:
        numbers = {_key(line): line.number for line in lines}
        states = follow(
            list(numbers),
            lambda answered: self._progress("acknowledged or closed", answered, len(numbers)),
        )
        answered = sum(seen.is_answered for seen in states.values())
        self._progress("acknowledged or closed", answered, len(numbers), end=True)
        seconds = clock.monotonic() - started_at
        count = f"{answered} of {_orders(len(numbers))}"
        self.stdout.write(f"{count} acknowledged or closed after {seconds:.1f} s:\n\n")
        self.stdout.write("\n".join(summary(states, numbers)))
        return len(states) - answered

    def _progress(self, what: str, done: int, total: int, *, end: bool = False) -> None:
        """Draw a progress bar over the last one, only on a terminal."""
        if not self.stderr.isatty() or not total:
            return
        filled = "#" * (_BAR_WIDTH * done // total)
        self.stderr.write(
            f"\r[{filled:.<{_BAR_WIDTH}}] {done}/{total} {what}", _unstyled, "\n" if end else ""
        )
        self.stderr.flush()


def _unstyled(text: str) -> str:
    return text


def _orders(count: int) -> str:
    return "1 order" if count == 1 else f"{count} orders"


def _key(line: Line) -> Key:
    return line.arguments["account"], line.arguments["intent_id"]


def _broker_address() -> str:
    parts = urlsplit(current_app.conf.broker_url or "")  # Without its password.
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


# -- checks of a line before it is sent ----------------------------------------------------------


def _fill_in_account(lines: list[Line], name: str | None) -> None:
    """Give lines without an account the named one, or the only enabled one."""
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
        raise CommandError(f"name the account of the orders with --account. Enabled: {known}")
    return names[0]


def check_lines(lines: list[Line]) -> None:
    """Store each line's problem: a bad argument, an unknown account, an intent id used before."""
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
                raise invalid("intent_id", f"{intent.intent_id!r} is already in line {first}")
        except InvalidIntent as error:
            line.problem = str(error)
        else:
            intents.append((line, intent))
    for part in chunks(intents, _CHUNK):
        _check_conflicts(part)


def _check_conflicts(intents: list[tuple[Line, Intent]]) -> None:
    """Store the problem of lines whose intent id our book has with other arguments."""
    rows = Order.objects.filter(
        intent_id__in={intent.intent_id for _, intent in intents}
    ).select_related("account")
    known = {(order.account.name, order.intent_id): order for order in rows}
    for line, intent in intents:
        order = known.get((intent.account, intent.intent_id))
        try:
            if order is not None:
                require_same_intent(order, intent)
        except InvalidIntent as error:
            line.problem = str(error)
