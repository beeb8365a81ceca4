"""Store orders, the requests that were sent for them, their fills and their events.

`orders.recording` and `orders.placing` write these rows. Each index names the query that it serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.models import ExchangeAccount
from exchanges.types import ExchangeStatus, Side
from orders import states
from orders.db_retry import RowGone
from orders.ids import uuid7

# IDs compare byte by byte, whatever the language of the database is. So the unique indexes also
# serve a search by the beginning of an ID, and no other index has to.
BYTES = "C"
EXTERNAL_PREFIX = "external:"
RECOVERED_PREFIX = "recovered:"


class Status(models.TextChoices):
    """Label each `orders.states.OrderStatus` for people."""

    HELD = "HELD", _("waits for a second person")
    CREATED = "CREATED", _("created")
    PENDING_NEW = "PENDING_NEW", _("sent, unconfirmed")
    NEW = "NEW", _("working")
    PARTIALLY_FILLED = "PARTIALLY_FILLED", _("partially filled")
    FILLED = "FILLED", _("filled")
    CANCELED = "CANCELED", _("canceled")
    REJECTED = "REJECTED", _("rejected by the exchange")
    EXPIRED = "EXPIRED", _("expired")
    DENIED = "DENIED", _("denied by the gate")
    NOT_PLACED = "NOT_PLACED", _("not placed")


def _words(words: Iterable[str]) -> list[str]:
    """Return plain strings in a fixed order, so that migrations don't import our enums or differ
    from run to run.
    """
    return sorted(str(word) for word in words)


def _choices(words: Iterable[str]) -> list[tuple[str, str]]:
    return [(str(word), str(word)) for word in words]


class Reloaded(models.Model):
    """A row that processes work on for longer than one transaction."""

    class Meta:
        abstract = True

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """Read the row again. Raise `RowGone` if a restored database lacks it."""
        try:
            super().refresh_from_db(*args, **kwargs)
        except ObjectDoesNotExist as gone:
            raise RowGone(f"{type(self).__name__} {self.pk} is gone") from gone


class Order(Reloaded):
    """One intent of a bot or a person, and its state. Quantities and prices are as requested."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.PROTECT,
        related_name="orders",
        verbose_name=_("account"),
        db_index=False,
    )
    intent_id = models.CharField(_("intent ID"), max_length=64, db_collation=BYTES)
    symbol = models.CharField(_("symbol"), max_length=32)
    side = models.CharField(_("side"), max_length=4, choices=_choices(Side))
    order_type = models.CharField(_("type"), max_length=32)
    time_in_force = models.CharField(_("time in force"), max_length=8, blank=True, default="")
    quantity = ExactDecimalField(_("quantity"), null=True, blank=True)
    quote_quantity = ExactDecimalField(_("quote quantity"), null=True, blank=True)
    price = ExactDecimalField(_("price"), null=True, blank=True)
    stop_price = ExactDecimalField(_("stop price"), null=True, blank=True)
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.CREATED)
    verdict = models.CharField(
        _("our verdict"),
        max_length=16,
        choices=_choices(_words(states.VERDICTS)),
        default=Status.CREATED,
        db_default=Status.CREATED,
        help_text=_("The status as long as the exchange says nothing of any attempt."),
    )
    reason_code = models.CharField(_("reason code"), max_length=64, blank=True, default="")
    reason = models.TextField(_("reason"), blank=True, default="")
    exchange_order_id = models.CharField(
        _("exchange order ID"),
        max_length=64,
        blank=True,
        default="",
        help_text=_("The ID of the last attempt that has one."),
    )
    filled_quantity = ExactDecimalField(_("filled"), default=0)
    filled_quote_quantity = ExactDecimalField(_("filled value"), default=0)
    average_price = ExactDecimalField(_("average price"), null=True, blank=True)
    strategy = models.CharField(_("strategy"), max_length=64, blank=True, default="")
    is_external = models.BooleanField(
        _("external"), default=False, help_text=_("Someone else placed this order.")
    )
    place_by = models.DateTimeField(_("place by"), null=True, blank=True)
    cancel_requested_at = models.DateTimeField(_("cancel requested at"), null=True, blank=True)
    cancel_requested_by = models.CharField(
        _("cancel requested by"), max_length=150, blank=True, default=""
    )
    created_at = models.DateTimeField(_("created at"), default=clock.now)
    submitted_at = models.DateTimeField(
        _("submitted at"), null=True, help_text=_("When the caller decided to trade.")
    )
    acknowledged_at = models.DateTimeField(_("acknowledged at"), null=True, blank=True)
    closed_at = models.DateTimeField(_("closed at"), null=True, blank=True)
    attempt = models.PositiveSmallIntegerField(
        _("attempts"),
        default=0,
        help_text=_("Number of requests that were sent or may have been sent."),
    )
    version = models.PositiveIntegerField(default=0, help_text=_("Increases with every change."))
    next_check_at = models.DateTimeField(
        _("next check"),
        null=True,
        blank=True,
        default=clock.now,
        help_text=_("When the sweep checks this order next."),
    )
    check_count = models.PositiveIntegerField(_("checks"), default=0)
    open_attempts = models.PositiveIntegerField(
        _("open attempts"),
        default=0,
        db_default=0,
        help_text=_("Number of attempts that the sweep must still resolve or cancel."),
    )

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = _("order")
        verbose_name_plural = _("orders")
        permissions: ClassVar = [
            ("cancel_order", _("Can cancel orders")),
            ("declare_lost", _("Can declare orders lost")),
            ("release_order", _("Can release or reject held orders")),
            ("place_by_hand", _("Can place orders by hand")),
        ]
        constraints: ClassVar = [
            # One intent is one order. The gate looks orders up by it, too.
            models.UniqueConstraint(fields=["account", "intent_id"], name="order_unique_intent"),
            models.CheckConstraint(
                condition=Q(status__in=_words(states.OrderStatus)), name="order_known_status"
            ),
            models.CheckConstraint(condition=Q(side__in=_words(Side)), name="order_known_side"),
            models.CheckConstraint(
                condition=Q(quantity__isnull=True) | Q(quantity__gt=0),
                name="order_quantity_is_positive",
            ),
            models.CheckConstraint(
                condition=Q(quote_quantity__isnull=True) | Q(quote_quantity__gt=0),
                name="order_quote_quantity_is_positive",
            ),
            models.CheckConstraint(
                condition=Q(filled_quantity__gte=0), name="order_filled_is_not_negative"
            ),
            # Every unresolved order has a next step.
            models.CheckConstraint(
                condition=~Q(status__in=_words(states.UNRESOLVED)) | Q(next_check_at__isnull=False),
                name="order_unsettled_has_next_check",
            ),
            models.CheckConstraint(
                condition=~Q(status=states.OrderStatus.HELD.value) | Q(next_check_at__isnull=False),
                name="order_held_has_next_check",
            ),
            # So does an order with an attempt whose fate is open, whatever its status is.
            models.CheckConstraint(
                condition=Q(open_attempts=0) | Q(next_check_at__isnull=False),
                name="order_open_attempt_has_next_check",
            ),
            models.CheckConstraint(
                condition=Q(verdict__in=_words(states.VERDICTS)), name="order_known_verdict"
            ),
            models.CheckConstraint(
                condition=Q(status__in=_words(states.CLOSED)) | Q(closed_at__isnull=True),
                name="order_closed_at_only_if_closed",
            ),
        ]
        indexes: ClassVar = [
            # due.due_orders: WHERE account = ? AND next_check_at <= now ORDER BY next_check_at
            models.Index(
                fields=["account", "next_check_at"],
                name="order_due",
                condition=Q(next_check_at__isnull=False),
            ),
            # the same for the few of them that are to be canceled
            models.Index(
                fields=["account", "next_check_at"],
                name="order_to_cancel",
                condition=Q(next_check_at__isnull=False, cancel_requested_at__isnull=False),
            ),
            # reconciliation.open_attempts: WHERE account = ? AND status IN (NEW, PARTIALLY_FILLED)
            models.Index(
                fields=["account", "symbol"],
                name="order_open",
                condition=Q(status__in=_words(states.OPEN)),
            ),
            # desk: unresolved and held orders, oldest first. metrics: their count and age
            models.Index(
                fields=["created_at"],
                name="order_waiting",
                condition=Q(status__in=_words(states.UNRESOLVED | {states.OrderStatus.HELD})),
            ),
            # desk: the few orders that never traded, newest first. No other order has an entry
            models.Index(
                fields=["-created_at", "-id"],
                name="order_refused",
                condition=Q(status__in=["DENIED", "NOT_PLACED", "REJECTED"]),
            ),
            # desk: external orders, newest first. None of ours has an entry
            models.Index(
                fields=["-created_at", "-id"],
                name="order_external",
                condition=Q(is_external=True),
            ),
            # desk: the blotter, newest first, of all accounts and of one
            models.Index(fields=["-created_at", "-id"], name="order_newest"),
            models.Index(fields=["account", "-created_at"], name="order_account_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.symbol} {self.intent_id}"


class AttemptOutcome(models.TextChoices):
    """Name the known outcome of one request to place an order."""

    IN_FLIGHT = "IN_FLIGHT", _("in flight")
    UNKNOWN = "UNKNOWN", _("no trustworthy answer")
    ACKNOWLEDGED = "ACKNOWLEDGED", _("acknowledged")
    REJECTED = "REJECTED", _("rejected")
    NOT_SENT = "NOT_SENT", _("not executed")
    ABSENT = "ABSENT", _("not found at exchange")
    LOST = "LOST", _("declared lost")


class ExchangeOrder(Reloaded):
    """One request that was sent or may have been sent, and the exchange's state of it.

    These rows map our order ids to the exchange's.
    """

    # No index for these two, because a unique constraint below starts with each.
    order = models.ForeignKey(
        Order, on_delete=models.PROTECT, related_name="exchange_orders", db_index=False
    )
    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    attempt = models.PositiveSmallIntegerField(_("attempt"))
    client_order_id = models.CharField(_("client order ID"), max_length=64, db_collation=BYTES)
    exchange_order_id = models.CharField(
        _("exchange order ID"), max_length=64, blank=True, default="", db_collation=BYTES
    )
    symbol = models.CharField(_("symbol"), max_length=32)
    outcome = models.CharField(
        _("outcome"), max_length=16, choices=AttemptOutcome, default=AttemptOutcome.IN_FLIGHT
    )
    exchange_status = models.CharField(_("exchange status"), max_length=32, blank=True, default="")
    quantity = ExactDecimalField(_("quantity as sent"), null=True, blank=True)
    quote_quantity = ExactDecimalField(_("quote quantity as sent"), null=True, blank=True)
    price = ExactDecimalField(_("price as sent"), null=True, blank=True)
    stop_price = ExactDecimalField(_("stop price as sent"), null=True, blank=True)
    filled_quantity = ExactDecimalField(_("filled"), default=0)
    filled_quote_quantity = ExactDecimalField(_("filled value"), default=0)
    fills_quantity = ExactDecimalField(_("sum of fills"), default=0)
    fills_quote_quantity = ExactDecimalField(_("sum of fill values"), default=0)
    request_timestamp_ms = models.BigIntegerField(_("request timestamp, ms"), null=True)
    recv_window_ms = models.PositiveIntegerField(_("recvWindow, ms"), null=True)
    sent_at = models.DateTimeField(_("sent at"), null=True)
    acknowledged_at = models.DateTimeField(_("acknowledged at"), null=True)
    exchange_updated_at = models.DateTimeField(_("exchange time of this state"), null=True)
    exchange_created_at = models.DateTimeField(
        _("exchange time of creation"),
        null=True,
        help_text=_("From the first message about it. Later ones must have the same."),
    )
    # Durations of the placement's stages, in microseconds: see `orders.stages`.
    stage_us = ArrayField(models.IntegerField(), null=True)
    # The price of the market that was known when the gate let the order pass, its time, and its
    # `PriceSource`. Earlier versions stored the last trade, the time of the query, and no source.
    arrival_price = ExactDecimalField(null=True)
    arrival_price_at = models.DateTimeField(null=True)
    arrival_price_source = models.CharField(max_length=16, blank=True, default="", db_default="")
    amended_client_order_id = models.CharField(
        _("amended client order ID"),
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text=_("The client order ID that the exchange shows since the order was amended."),
    )
    epoch = models.PositiveIntegerField(
        _("epoch"),
        default=0,
        db_default=0,
        help_text=_("The exchange's numbers are unique within an epoch."),
    )

    class Meta:
        ordering = ("order", "attempt")
        verbose_name = _("exchange order")
        verbose_name_plural = _("exchange orders")
        constraints: ClassVar = [
            # A client order id is never used twice. Reports are looked up by it, too.
            models.UniqueConstraint(
                fields=["account", "client_order_id"], name="exchange_order_unique_client_id"
            ),
            models.UniqueConstraint(
                fields=["order", "attempt"], name="exchange_order_unique_attempt"
            ),
            # The exchange numbers orders per symbol, from the start again after a reset. Trades are
            # looked up by it, too.
            models.UniqueConstraint(
                fields=["account", "symbol", "exchange_order_id", "epoch"],
                condition=~Q(exchange_order_id=""),
                name="exchange_order_unique_number",
            ),
            models.CheckConstraint(
                condition=Q(filled_quantity__gte=0), name="exchange_order_filled_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return self.client_order_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Derive the outcome of a row that only has the exchange's words (an import, a test).
        if self._state.adding:
            self.symbol = self.symbol or self.order.symbol
            if self.outcome == AttemptOutcome.IN_FLIGHT and (
                self.exchange_order_id or self.exchange_status
            ):
                refused = self.exchange_status == ExchangeStatus.REJECTED
                self.outcome = AttemptOutcome.REJECTED if refused else AttemptOutcome.ACKNOWLEDGED
        super().save(*args, **kwargs)


class Fill(models.Model):
    """One trade of an order, stored once, however many messages report it."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    exchange_order = models.ForeignKey(
        ExchangeOrder, on_delete=models.PROTECT, related_name="fills"
    )
    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    symbol = models.CharField(_("symbol"), max_length=32)
    trade_id = models.CharField(_("trade ID"), max_length=64, db_collation=BYTES)
    epoch = models.PositiveIntegerField(_("epoch"), default=0, db_default=0)
    side = models.CharField(_("side"), max_length=4, choices=_choices(Side))
    quantity = ExactDecimalField(_("quantity"))
    price = ExactDecimalField(_("price"))
    quote_quantity = ExactDecimalField(_("quote quantity"))
    commission = ExactDecimalField(_("commission"), default=0)
    commission_asset = models.CharField(
        _("commission asset"), max_length=32, blank=True, default=""
    )
    is_maker = models.BooleanField(_("maker"), null=True)
    traded_at = models.DateTimeField(_("traded at"))

    class Meta:
        ordering = ("traded_at", "id")
        verbose_name = _("fill")
        verbose_name_plural = _("fills")
        constraints: ClassVar = [
            # An account that trades with itself has two fills of one trade, one on each side.
            models.UniqueConstraint(
                fields=["account", "symbol", "trade_id", "side", "epoch"],
                name="fill_unique_trade_id",
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0), name="fill_quantity_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.trade_id}"


class EventType(models.TextChoices):
    CREATED = "CREATED", _("recorded")
    DENIED = "DENIED", _("denied by the gate")
    HELD = "HELD", _("held for a second person")
    RELEASED = "RELEASED", _("released by a second person")
    REVIEW_REJECTED = "REVIEW_REJECTED", _("rejected by a second person")
    CLAIMED = "CLAIMED", _("claimed for sending")
    WAITING = "WAITING", _("deferred")
    REPORT = "REPORT", _("exchange report")
    REJECTED = "REJECTED", _("rejected by the exchange")
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN", _("outcome unknown")
    NOT_SENT = "NOT_SENT", _("not executed")
    DUPLICATE = "DUPLICATE", _("exchange already knows this ID")
    ADOPTED = "ADOPTED", _("linked to intent")
    ABSENT = "ABSENT", _("not found at exchange")
    NOT_PLACED = "NOT_PLACED", _("not placed")
    DECLARED_LOST = "DECLARED_LOST", _("declared lost")
    CANCEL_REQUESTED = "CANCEL_REQUESTED", _("cancel requested")
    WITHDRAWN = "WITHDRAWN", _("canceled before sending")
    CANCEL_UNCONFIRMED = "CANCEL_UNCONFIRMED", _("cancel unconfirmed")
    CANCEL_REFUSED = "CANCEL_REFUSED", _("cancel rejected")
    BREAK = "BREAK", _("break opened")


class OrderEvent(models.Model):
    """One change of an order: actor, reason, status before and after, and the exchange's message.

    Append-only.
    """

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
