"""The book: orders, what the exchange was sent and said of each, fills, events, and what could not be made equal.

Rows here are written by `orders.book`, and by the verbs on top of it (`claims`, `services`, `cancelling`, `reconcile`).
Each index names the query it serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.models import ExchangeAccount
from exchanges.types import ExchangeStatus, Side
from orders import states
from orders.ids import uuid7

EXTERNAL_PREFIX = "external:"
RECOVERED_PREFIX = "recovered:"


class Status(models.TextChoices):
    """`orders.states.OrderStatus`, with words for people."""

    CREATED = "CREATED", _("created")
    PENDING_NEW = "PENDING_NEW", _("sent, unconfirmed")
    NEW = "NEW", _("working")
    PARTIALLY_FILLED = "PARTIALLY_FILLED", _("partially filled")
    FILLED = "FILLED", _("filled")
    CANCELED = "CANCELED", _("canceled")
    REJECTED = "REJECTED", _("rejected by the exchange")
    EXPIRED = "EXPIRED", _("expired")
    DENIED = "DENIED", _("denied by our gate")
    NOT_PLACED = "NOT_PLACED", _("not placed")


def _words(words: Iterable[str]) -> list[str]:
    """Plain text in a fixed order: a migration must neither import our enums nor differ from run to run."""
    return sorted(str(word) for word in words)


def _choices(words: Iterable[str]) -> list[tuple[str, str]]:
    return [(str(word), str(word)) for word in words]


class Order(models.Model):
    """One intent of a bot or a person, with what became of it. Quantities and prices are as requested."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="orders", verbose_name=_("account"), db_index=False
    )
    intent_id = models.CharField(_("intent id"), max_length=64)
    symbol = models.CharField(_("symbol"), max_length=32)
    side = models.CharField(_("side"), max_length=4, choices=_choices(Side))
    order_type = models.CharField(_("type"), max_length=32)
    time_in_force = models.CharField(_("time in force"), max_length=8, blank=True, default="")
    quantity = ExactDecimalField(_("quantity"), null=True, blank=True)
    quote_quantity = ExactDecimalField(_("quote quantity"), null=True, blank=True)
    price = ExactDecimalField(_("price"), null=True, blank=True)
    stop_price = ExactDecimalField(_("stop price"), null=True, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.CREATED)
    reason_code = models.CharField(_("reason code"), max_length=64, blank=True, default="")
    reason = models.TextField(_("reason"), blank=True, default="")
    exchange_order_id = models.CharField(
        _("exchange order id"), max_length=64, blank=True, default="", help_text=_("Of the attempt that last had one.")
    )
    filled_quantity = ExactDecimalField(_("filled"), default=0)
    filled_quote_quantity = ExactDecimalField(_("filled, in quote"), default=0)
    average_price = ExactDecimalField(_("average price"), null=True, blank=True)
    strategy = models.CharField(_("strategy"), max_length=64, blank=True, default="")
    is_external = models.BooleanField(_("external"), default=False, help_text=_("Placed by someone else."))
    place_by = models.DateTimeField(_("place by"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True, blank=True)
    cancel_requested_by = models.CharField(_("cancel requested by"), max_length=150, blank=True, default="")
    created_at = models.DateTimeField(_("created at"), default=clock.now)
    submitted_at = models.DateTimeField(_("submitted at"), null=True, help_text=_("When the caller decided."))
    acknowledged_at = models.DateTimeField(_("acknowledged at"), null=True, blank=True)
    closed_at = models.DateTimeField(_("closed at"), null=True, blank=True)
    attempt = models.PositiveSmallIntegerField(
        _("attempts"), default=0, help_text=_("Requests that left or may have left.")
    )
    version = models.PositiveIntegerField(default=0, help_text=_("Grows with every change."))
    next_check_at = models.DateTimeField(
        _("next check"), null=True, blank=True, default=clock.now, help_text=_("When a sweep looks at this order next.")
    )
    check_count = models.PositiveSmallIntegerField(_("checks"), default=0)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        permissions: ClassVar = [("cancel_order", _("Can cancel orders"))]
        constraints: ClassVar = [
            # One intent, one order; also the gate's look-up by (account, intent id).
            models.UniqueConstraint(fields=["account", "intent_id"], name="order_unique_intent"),
            models.CheckConstraint(condition=Q(status__in=_words(states.OrderStatus)), name="order_known_status"),
            models.CheckConstraint(condition=Q(side__in=_words(Side)), name="order_known_side"),
            models.CheckConstraint(
                condition=Q(quantity__isnull=True) | Q(quantity__gt=0), name="order_quantity_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(quote_quantity__isnull=True) | Q(quote_quantity__gt=0),
                name="order_quote_quantity_is_positive",
            ),
            models.CheckConstraint(condition=Q(filled_quantity__gte=0), name="order_filled_is_not_negative"),
            # Nothing is left without a next step.
            models.CheckConstraint(
                condition=~Q(status__in=_words(states.UNSETTLED)) | Q(next_check_at__isnull=False),
                name="order_unsettled_has_next_check",
            ),
            models.CheckConstraint(
                condition=Q(status__in=_words(states.CLOSED)) | Q(closed_at__isnull=True),
                name="order_closed_at_only_if_closed",
            ),
        ]
        indexes: ClassVar = [
            # reconcile.due_orders: WHERE next_check_at <= now ORDER BY next_check_at
            models.Index(fields=["next_check_at"], name="order_due", condition=Q(next_check_at__isnull=False)),
            # catchup.sync_open_orders: WHERE account = ? AND status IN (NEW, PARTIALLY_FILLED)
            models.Index(fields=["account", "symbol"], name="order_open", condition=Q(status__in=_words(states.OPEN))),
            # admin: unresolved orders, oldest first; metrics: their count and age
            models.Index(
                fields=["created_at"], name="order_unsettled", condition=Q(status__in=_words(states.UNSETTLED))
            ),
            # admin: the blotter, newest first, alone and by account
            models.Index(fields=["-created_at", "-id"], name="order_newest"),
            models.Index(fields=["account", "-created_at"], name="order_account_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} {self.intent_id}"


class Outcome(models.TextChoices):
    """What is known of one request to place an order."""

    IN_FLIGHT = "IN_FLIGHT", _("in flight")
    UNKNOWN = "UNKNOWN", _("no trustworthy answer")
    ACKNOWLEDGED = "ACKNOWLEDGED", _("acknowledged")
    REJECTED = "REJECTED", _("refused by the exchange")
    NOT_SENT = "NOT_SENT", _("certainly not executed")
    ABSENT = "ABSENT", _("proven absent")


class ExchangeOrder(models.Model):
    """The ID mapping: one row per request that left or may have left, and what the exchange says of it."""

    # Both lead an index of the constraints below.
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="exchange_orders", db_index=False)
    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="+", db_index=False)
    attempt = models.PositiveSmallIntegerField(_("attempt"))
    client_order_id = models.CharField(_("client order id"), max_length=64)
    exchange_order_id = models.CharField(_("exchange order id"), max_length=64, blank=True, default="")
    symbol = models.CharField(_("symbol"), max_length=32)
    outcome = models.CharField(_("outcome"), max_length=16, choices=Outcome, default=Outcome.IN_FLIGHT)
    exchange_status = models.CharField(_("exchange status"), max_length=32, blank=True, default="")
    quantity = ExactDecimalField(_("quantity as sent"), null=True, blank=True)
    quote_quantity = ExactDecimalField(_("quote quantity as sent"), null=True, blank=True)
    price = ExactDecimalField(_("price as sent"), null=True, blank=True)
    stop_price = ExactDecimalField(_("stop price as sent"), null=True, blank=True)
    filled_quantity = ExactDecimalField(_("filled"), default=0)
    filled_quote_quantity = ExactDecimalField(_("filled, in quote"), default=0)
    fills_quantity = ExactDecimalField(_("sum of fills"), default=0)
    fills_quote_quantity = ExactDecimalField(_("sum of fills, in quote"), default=0)
    request_timestamp_ms = models.BigIntegerField(_("request timestamp, ms"), null=True)
    recv_window_ms = models.PositiveIntegerField(_("recvWindow, ms"), null=True)
    sent_at = models.DateTimeField(_("sent at"), null=True)
    acknowledged_at = models.DateTimeField(_("acknowledged at"), null=True)
    exchange_updated_at = models.DateTimeField(_("exchange time of its state"), null=True)

    class Meta:
        ordering = ("order", "attempt")
        verbose_name = _("exchange order")
        verbose_name_plural = _("exchange orders")
        constraints: ClassVar = [
            # A client order id is never used twice; also the look-up of reports by it.
            models.UniqueConstraint(fields=["account", "client_order_id"], name="exchange_order_unique_client_id"),
            models.UniqueConstraint(fields=["order", "attempt"], name="exchange_order_unique_attempt"),
            # The exchange numbers orders per symbol; also the look-up of trades by it.
            models.UniqueConstraint(
                fields=["account", "symbol", "exchange_order_id"],
                condition=~Q(exchange_order_id=""),
                name="exchange_order_unique_exchange_id",
            ),
            models.CheckConstraint(condition=Q(filled_quantity__gte=0), name="exchange_order_filled_not_negative"),
        ]

    def __str__(self) -> str:
        return self.client_order_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        # A row that tells what the exchange said without our own words for it (an import, a test) is as good as ours.
        if self._state.adding:
            self.symbol = self.symbol or self.order.symbol
            if self.outcome == Outcome.IN_FLIGHT and (self.exchange_order_id or self.exchange_status):
                refused = self.exchange_status == ExchangeStatus.REJECTED
                self.outcome = Outcome.REJECTED if refused else Outcome.ACKNOWLEDGED
        super().save(*args, **kwargs)


class Fill(models.Model):
    """One trade of one of our orders; stored once, whichever message brought it first."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    exchange_order = models.ForeignKey(ExchangeOrder, on_delete=models.PROTECT, related_name="fills")
    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="+")
    symbol = models.CharField(_("symbol"), max_length=32)
    trade_id = models.CharField(_("trade id"), max_length=64)
    side = models.CharField(_("side"), max_length=4, choices=_choices(Side))
    quantity = ExactDecimalField(_("quantity"))
    price = ExactDecimalField(_("price"))
    quote_quantity = ExactDecimalField(_("quote quantity"))
    commission = ExactDecimalField(_("commission"), default=0)
    commission_asset = models.CharField(_("commission asset"), max_length=32, blank=True, default="")
    is_maker = models.BooleanField(_("maker"), null=True)
    traded_at = models.DateTimeField(_("traded at"))

    class Meta:
        ordering = ("traded_at", "id")
        verbose_name = _("fill")
        verbose_name_plural = _("fills")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol", "trade_id"], name="fill_unique_trade"),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="fill_quantity_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.trade_id}"


class EventType(models.TextChoices):
    CREATED = "CREATED", _("recorded")
    DENIED = "DENIED", _("denied by the gate")
    CLAIMED = "CLAIMED", _("claimed for sending")
    WAITING = "WAITING", _("waits")
    REPORT = "REPORT", _("exchange reported")
    REJECTED = "REJECTED", _("exchange refused")
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN", _("outcome unknown")
    NOT_SENT = "NOT_SENT", _("certainly not executed")
    DUPLICATE = "DUPLICATE", _("exchange knows this id already")
    ADOPTED = "ADOPTED", _("adopted")
    ABSENT = "ABSENT", _("proven absent")
    NOT_PLACED = "NOT_PLACED", _("not placed")
    CANCEL_REQUESTED = "CANCEL_REQUESTED", _("cancel requested")
    WITHDRAWN = "WITHDRAWN", _("withdrawn before sending")
    CANCEL_UNCONFIRMED = "CANCEL_UNCONFIRMED", _("cancel unconfirmed")
    CANCEL_REFUSED = "CANCEL_REFUSED", _("cancel refused")
    BREAK = "BREAK", _("break opened")


class OrderEvent(models.Model):
    """Append-only: each change of an order, with who or what, why, before, after, and the exchange's own words."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")
    event_type = models.CharField(_("event"), max_length=32, choices=EventType)
    at = models.DateTimeField(_("at"), default=clock.now)
    actor = models.CharField(_("actor"), max_length=150, blank=True, default="")
    previous_status = models.CharField(_("before"), max_length=16, blank=True, default="")
    new_status = models.CharField(_("after"), max_length=16, blank=True, default="")
    source = models.CharField(_("source"), max_length=16, blank=True, default="")
    details = models.JSONField(_("details"), default=dict)

    class Meta:
        ordering = ("id",)
        verbose_name = _("order event")
        verbose_name_plural = _("order events")

    def __str__(self) -> str:
        return f"{self.event_type} {self.at:%Y-%m-%d %H:%M:%S}"


class OrderNotice(models.Model):
    """One change of an order that a bot has to be told of; `orders.notices` sends it and forgets it after a while."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="notices")
    version = models.PositiveIntegerField()
    details = models.JSONField()  # the order as it was then
    written_at = models.DateTimeField(default=clock.now)
    taken_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        indexes: ClassVar = [
            # notices.sweep: WHERE sent_at IS NULL ORDER BY id
            models.Index(fields=["id"], name="notice_unsent", condition=Q(sent_at__isnull=True)),
            # notices.sweep: WHERE sent_at < ?
            models.Index(fields=["sent_at"], name="notice_sent", condition=Q(sent_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.order_id} {self.version}"


class Position(models.Model):
    """A holding (`orders.holdings`) of one traded symbol, as of the account's `PositionCursor`, with its last price.

    `orders.positions` alone writes it, and adds the fills since the cursor when it is asked.
    """

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="positions", verbose_name=_("account")
    )
    symbol = models.CharField(_("symbol"), max_length=32)
    base_asset = models.CharField(_("asset"), max_length=32)
    quote_asset = models.CharField(_("quote asset"), max_length=32)
    quantity = ExactDecimalField(_("quantity"), default=0)
    cost = ExactDecimalField(_("cost"), default=0)
    realised = ExactDecimalField(_("realised result"), default=0)
    fees = models.JSONField(_("commissions in other assets"), default=dict)  # asset -> decimal text
    trades = models.PositiveIntegerField(_("trades"), default=0)
    day = models.DateField(null=True)  # UTC, of the last trade; what it has added follows
    day_realised = ExactDecimalField(default=0)
    day_fees = models.JSONField(default=dict)
    last_price = ExactDecimalField(_("last price"), null=True)
    fee_prices = models.JSONField(default=dict)  # of each asset of `fees` that could be priced
    priced_at = models.DateTimeField(_("priced at"), null=True)

    class Meta:
        ordering = ("account", "symbol")
        verbose_name = _("position")
        verbose_name_plural = _("positions")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="position_unique_symbol"),
        ]

    def __str__(self) -> str:
        return f"{self.base_asset} {self.symbol}"


class PositionCursor(models.Model):
    """Up to which fill an account's positions are folded, and up to which they may be folded next."""

    account = models.OneToOneField(ExchangeAccount, on_delete=models.CASCADE, primary_key=True, related_name="+")
    folded_fill_id = models.BigIntegerField(default=0)
    seen_fill_id = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.account_id}: {self.folded_fill_id}"


class BreakKind(models.TextChoices):
    """What our book and the exchange disagree about."""

    LATE_EVIDENCE = "LATE_EVIDENCE", _("an order held absent or closed by us turned up")
    DOUBLE_PLACEMENT = "DOUBLE_PLACEMENT", _("two attempts of one intent at the exchange")
    DIFFERENT_ORDER = "DIFFERENT_ORDER", _("the exchange's order differs from ours")
    FILL_GAP = "FILL_GAP", _("fills do not add up")
    OVERFILL = "OVERFILL", _("filled more than ordered")
    UNKNOWN_STATUS = "UNKNOWN_STATUS", _("a status that we do not know")
    ACCOUNT_REFUSED = "ACCOUNT_REFUSED", _("the exchange refuses this account's key")
    BALANCE_MISMATCH = "BALANCE_MISMATCH", _("locked balance that no open order explains")
    EXCHANGE_RESET = "EXCHANGE_RESET", _("the exchange knows none of our orders")
    UNREADABLE_EVENT = "UNREADABLE_EVENT", _("an event that we could not read or apply")
    MISSING_AT_EXCHANGE = "MISSING_AT_EXCHANGE", _("an open order that the exchange does not know")
    HALTED_BY_RULE = "HALTED_BY_RULE", _("an account was halted by a rule")


class ReconciliationBreak(models.Model):
    """A difference that evidence could not mend: one row per cause, however often it is seen."""

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="breaks")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, null=True, blank=True, related_name="breaks")
    kind = models.CharField(_("kind"), max_length=32, choices=BreakKind)
    subject = models.CharField(_("subject"), max_length=128, help_text=_("What it is about, e.g. a client order id."))
    details = models.JSONField(_("details"), default=dict)
    opened_at = models.DateTimeField(_("opened at"), default=clock.now)
    resolved_at = models.DateTimeField(_("resolved at"), null=True, blank=True)
    resolution = models.TextField(_("resolution"), blank=True, default="")

    class Meta:
        ordering = ("-opened_at",)
        verbose_name = _("reconciliation break")
        verbose_name_plural = _("reconciliation breaks")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "kind", "subject"], condition=Q(resolved_at__isnull=True), name="break_one_per_cause"
            )
        ]
        indexes: ClassVar = [
            # admin: open breaks, newest first
            models.Index(fields=["-opened_at"], name="break_open", condition=Q(resolved_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}"


class RiskLimit(models.Model):
    """What one account, or one symbol or strategy of it, may do at most. Empty is unlimited; the tightest row wins.

    Money is in `currency`, and counts the symbols that are quoted in it.
    """

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="risk_limits", verbose_name=_("account")
    )
    symbol = models.CharField(_("symbol"), max_length=32, blank=True, default="", help_text=_("Empty: every symbol."))
    strategy = models.CharField(
        _("strategy"), max_length=64, blank=True, default="", help_text=_("Empty: every strategy.")
    )
    currency = models.CharField(
        _("currency"), max_length=32, default="USDT", help_text=_("Of the amounts below: a quote asset.")
    )
    allowed_symbols = models.CharField(
        _("allowed symbols"),
        max_length=2000,
        blank=True,
        default="",
        help_text=_("Only these, parted by spaces. Empty: every symbol."),
    )
    max_order_notional = ExactDecimalField(_("notional of one order"), null=True, blank=True)
    max_notional_per_day = ExactDecimalField(_("notional of a day (UTC)"), null=True, blank=True)
    max_daily_loss = ExactDecimalField(
        _("realised loss of a day (UTC)"),
        null=True,
        blank=True,
        help_text=_("Net of commissions, by average cost. Of the row's symbol, or of all of the account's."),
    )
    max_open_orders = models.PositiveIntegerField(_("open orders"), null=True, blank=True)
    max_orders_per_second = models.PositiveIntegerField(_("orders in a second"), null=True, blank=True)
    max_orders_per_day = models.PositiveIntegerField(_("orders in a day (UTC)"), null=True, blank=True)
    max_position = ExactDecimalField(
        _("position"), null=True, blank=True, help_text=_("Of the base asset, with what open buys may add.")
    )
    max_price_distance = ExactDecimalField(
        _("price distance, %"), null=True, blank=True, help_text=_("From the last trade, to either side.")
    )
    max_price_age = models.PositiveIntegerField(
        _("price age, s"), default=60, help_text=_("An older last trade is none to measure by.")
    )
    max_identical_orders = models.PositiveIntegerField(_("identical orders"), null=True, blank=True)
    identical_window = models.PositiveIntegerField(_("window of identical orders, s"), default=10)

    class Meta:
        verbose_name = _("risk limit")
        verbose_name_plural = _("risk limits")
        permissions: ClassVar = [("simulate_gate", _("Can ask what the gate would answer"))]
        constraints: ClassVar = [
            # Also the gate's look-up by account.
            models.UniqueConstraint(
                fields=["account", "symbol", "strategy", "currency"], name="risk_limit_unique_scope"
            )
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, [str(self.account), self.symbol, self.strategy, self.currency]))

    def clean(self) -> None:
        """As orders are written: a limit for `btc/usdt` would bind nobody."""
        self.symbol = self.symbol.replace("/", "").strip().upper()
        self.currency = self.currency.strip().upper()
        self.strategy = self.strategy.strip()


class RiskLimitChange(models.Model):
    """Append-only: who changed which limits, from what to what."""

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="+", verbose_name=_("account"))
    at = models.DateTimeField(_("at"), default=clock.now)
    actor = models.CharField(_("actor"), max_length=150)
    subject = models.CharField(_("subject"), max_length=255)
    before = models.JSONField(_("before"), default=dict)
    after = models.JSONField(_("after"), default=dict)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("change of risk limits")
        verbose_name_plural = _("changes of risk limits")

    def __str__(self) -> str:
        return f"{self.subject} {self.at:%Y-%m-%d %H:%M:%S}"


class BrokenPlacing(models.Model):
    """Since when `orders.halt_rules` has seen an account's breaker of placing open. No row: it was not."""

    account = models.OneToOneField(ExchangeAccount, on_delete=models.CASCADE, primary_key=True, related_name="+")
    since = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.account_id} {self.since:%Y-%m-%d %H:%M:%S}"
