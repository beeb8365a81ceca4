"""What we know of the outside world: accounts, instruments, balances, and who is fetching what right now."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.fields import ExactDecimalField
from exchanges.types import InstrumentRules


class Environment(models.TextChoices):
    LIVE = "live", _("live")
    TESTNET = "testnet", _("testnet")
    SIMULATOR = "simulator", _("simulator")


class TradingState(models.TextChoices):
    """FIX's words for what an account may do: everything, only less risk, nothing new."""

    ACTIVE = "ACTIVE", _("active")
    REDUCING = "REDUCING", _("reducing")
    HALTED = "HALTED", _("halted")


class ExchangeAccount(models.Model):
    """One account at one exchange. Its credentials and hosts live in the environment, under its name."""

    name = models.SlugField(
        _("name"),
        max_length=64,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9][a-z0-9-]*\Z", _("Use lower-case letters, digits and dashes."))],
        help_text=_("Never changed: the names of the credentials and every order id derive from it."),
    )
    exchange = models.CharField(_("exchange"), max_length=32, default="binance")
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    trading_state = models.CharField(
        _("trading state"), max_length=16, choices=TradingState, default=TradingState.ACTIVE
    )
    trading_state_reason = models.TextField(_("reason"), blank=True, default="")
    last_synced_at = models.DateTimeField(
        _("last synced at"), null=True, blank=True, help_text=_("Start of the last complete comparison of open orders.")
    )
    balances_synced_at = models.DateTimeField(
        _("balances synced at"), null=True, blank=True, help_text=_("When the last complete balances were asked for.")
    )
    created_at = models.DateTimeField(_("created at"), default=clock.now, editable=False)

    class Meta:
        ordering = ("name",)
        verbose_name = _("exchange account")
        verbose_name_plural = _("exchange accounts")
        permissions: ClassVar = [
            ("halt_trading", _("Can halt trading")),
            ("resume_trading", _("Can resume trading")),
            ("reconcile_account", _("Can compare with the exchange")),
            ("force_breaker", _("Can force the circuit breakers")),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        # A live account is born halted; it trades once a person, or its safety check, has said so.
        if self._state.adding and self.environment == Environment.LIVE and self.trading_state == TradingState.ACTIVE:
            self.trading_state = TradingState.HALTED
            self.trading_state_reason = "a live account starts halted"
        super().save(*args, **kwargs)


class TradingHalt(models.Model):
    """The halt of everything: one row, which also binds accounts made later."""

    ROW = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ROW)
    is_halted = models.BooleanField(_("halted"), default=False)
    reason = models.TextField(_("reason"), blank=True, default="")
    changed_at = models.DateTimeField(_("changed at"), default=clock.now)
    changed_by = models.CharField(_("changed by"), max_length=150, blank=True, default="")

    class Meta:
        verbose_name = _("halt of all trading")
        verbose_name_plural = _("halt of all trading")
        constraints: ClassVar = [models.CheckConstraint(condition=Q(id=1), name="trading_halt_is_one_row")]

    def __str__(self) -> str:
        return "halted" if self.is_halted else "active"


class CallKind(models.TextChoices):
    """The kinds of call that have a circuit breaker of their own: `limits.Kind`'s, in words for people."""

    PLACE = "place", _("placing")
    CANCEL = "cancel", _("canceling")
    READ = "read", _("reading")


class BreakerHold(models.TextChoices):
    """What a person may make of a circuit breaker."""

    OPEN = "open", _("held open: nothing of the kind is sent")
    CLOSED = "closed", _("held closed: sent whatever fails")
    NONE = "auto", _("judges by itself")


class BreakerChange(models.Model):
    """A circuit breaker was forced by hand, or let go again: who, why and when. Append-only.

    What holds it lives in Redis, beside the breaker itself; a Redis that has lost its data lets it judge by itself.
    """

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="breaker_changes", verbose_name=_("account")
    )
    kind = models.CharField(_("kind of call"), max_length=8, choices=CallKind)
    state = models.CharField(_("state"), max_length=8, choices=BreakerHold)
    reason = models.TextField(_("reason"))
    actor = models.CharField(_("actor"), max_length=150)
    at = models.DateTimeField(_("at"), default=clock.now)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("change of a circuit breaker")
        verbose_name_plural = _("changes of circuit breakers")

    def __str__(self) -> str:
        return f"{self.account} {self.kind}: {self.state}"


class Instrument(models.Model):
    """One tradable symbol of one environment, as exchangeInfo describes it."""

    exchange = models.CharField(_("exchange"), max_length=32, default="binance")
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    symbol = models.CharField(_("symbol"), max_length=32)
    base_asset = models.CharField(_("base asset"), max_length=32)
    quote_asset = models.CharField(_("quote asset"), max_length=32)
    status = models.CharField(_("status"), max_length=32)
    order_types = models.JSONField(_("order types"), default=list)
    filters = models.JSONField(_("filters"), default=list, help_text=_("As exchangeInfo lists them."))
    quote_precision = models.PositiveSmallIntegerField(_("quote precision"), default=8)
    quote_order_quantity_allowed = models.BooleanField(_("quote quantity allowed"), default=True)
    updated_at = models.DateTimeField(_("updated at"), default=clock.now)

    class Meta:
        ordering = ("symbol",)
        verbose_name = _("instrument")
        verbose_name_plural = _("instruments")
        constraints: ClassVar = [
            # Also the index behind the gate's look-up.
            models.UniqueConstraint(fields=["exchange", "environment", "symbol"], name="instrument_unique_symbol")
        ]

    def __str__(self) -> str:
        return self.symbol

    @property
    def rules(self) -> InstrumentRules:
        return InstrumentRules(
            symbol=self.symbol,
            base_asset=self.base_asset,
            quote_asset=self.quote_asset,
            status=self.status,
            order_types=frozenset(self.order_types),
            filters=_by_type(self.filters),
            quote_precision=self.quote_precision,
            quote_order_quantity_allowed=self.quote_order_quantity_allowed,
        )


class RateLimits(models.Model):
    """exchangeInfo's `rateLimits` of one environment: the sizes of the budgets that all processes share."""

    exchange = models.CharField(_("exchange"), max_length=32)
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    rate_limits = models.JSONField(_("rate limits"), default=list)
    updated_at = models.DateTimeField(_("updated at"), default=clock.now)

    class Meta:
        verbose_name = _("rate limits")
        verbose_name_plural = _("rate limits")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["exchange", "environment"], name="rate_limits_unique_environment")
        ]

    def __str__(self) -> str:
        return f"{self.exchange} {self.environment}"


def _by_type(filters: Any) -> dict[str, Any]:
    """Filters by their type, from exchangeInfo's list or from a dict that is by type already."""
    if isinstance(filters, dict):
        return dict(filters)
    return {item["filterType"]: item for item in filters}


@lru_cache(maxsize=4096)
def instrument_rules(instrument_id: int, updated_at: datetime) -> InstrumentRules:
    """Parsed rules of one version of an instrument: the placing path reads two columns and parses no JSON."""
    return Instrument.objects.get(pk=instrument_id).rules


class StreamState(models.Model):
    """How an account's user data stream is doing, written by its listener; others only read it."""

    account = models.OneToOneField(
        ExchangeAccount, on_delete=models.CASCADE, related_name="stream", verbose_name=_("account")
    )
    connected_since = models.DateTimeField(_("connected since"), null=True, blank=True)
    in_sync_since = models.DateTimeField(
        _("in sync since"), null=True, blank=True, help_text=_("Subscribed first, then caught up by REST.")
    )
    alive_at = models.DateTimeField(_("alive at"), help_text=_("When the listener last said that it runs."))
    last_event_at = models.DateTimeField(_("last event at"), null=True, blank=True)
    lag_ms = models.PositiveIntegerField(
        _("lag, ms"), null=True, blank=True, help_text=_("From the exchange's time of the last event to its commit.")
    )
    reason = models.TextField(_("reason"), blank=True, default="", help_text=_("Why it is not connected."))

    class Meta:
        verbose_name = _("user stream")
        verbose_name_plural = _("user streams")

    def __str__(self) -> str:
        return f"{self.account}: {'in sync' if self.in_sync_since else self.reason or 'not in sync'}"

    def is_healthy(self, now: datetime) -> bool:
        """In sync, and its listener has said so within the last seconds."""
        return self.in_sync_since is not None and self.is_alive(now)

    def is_alive(self, now: datetime) -> bool:
        """Has its listener said so within the last seconds?"""
        return now - self.alive_at < STREAM_ALIVE_WITHIN


STREAM_ALIVE_WITHIN = timedelta(seconds=15)


class Balance(models.Model):
    """Free and locked amount of one asset, as the exchange last told it."""

    account = models.ForeignKey(ExchangeAccount, on_delete=models.PROTECT, related_name="balances")
    asset = models.CharField(_("asset"), max_length=32)
    free = ExactDecimalField(_("free"), default=0)
    locked = ExactDecimalField(_("locked"), default=0)
    reserved = ExactDecimalField(
        _("reserved"), default=0, help_text=_("Sum of the reservations: held back for orders that `free` still lacks.")
    )
    updated_at = models.DateTimeField(_("updated at"), help_text=_("The exchange's time of the figure."))

    class Meta:
        ordering = ("account", "asset")
        verbose_name = _("balance")
        verbose_name_plural = _("balances")
        constraints: ClassVar = [models.UniqueConstraint(fields=["account", "asset"], name="balance_unique_asset")]

    def __str__(self) -> str:
        return f"{self.asset}: {self.free} / {self.locked}"


class LastPrice(models.Model):
    """The last trade on a symbol, as the exchange told it when it was asked."""

    exchange = models.CharField(max_length=32)
    environment = models.CharField(max_length=16, choices=Environment)
    symbol = models.CharField(max_length=32)
    price = ExactDecimalField()
    traded_at = models.DateTimeField(help_text="The exchange's time of the trade.")
    asked_at = models.DateTimeField(help_text="By our clock.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["exchange", "environment", "symbol"], name="last_price_unique_symbol")
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.price}"


class Reservation(models.Model):
    """What one request may spend, held back until the exchange's own figures show it (`reservations.py`)."""

    account = models.ForeignKey(ExchangeAccount, on_delete=models.CASCADE, related_name="reservations", db_index=False)
    asset = models.CharField(max_length=32)
    reference = models.CharField(max_length=64, help_text="Client order id of the request.")
    amount = ExactDecimalField()
    due_at = models.DateTimeField(null=True, help_text="The exchange's figures show it from this time of its own.")
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes: ClassVar = [
            # reservations.hand_over, release: WHERE account = ? AND reference = ?
            models.Index(fields=["account", "reference"], name="reservation_reference"),
            # reservations.release_shown: WHERE account = ? AND due_at IS NOT NULL
            models.Index(fields=["account"], name="reservation_due", condition=Q(due_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.asset} {self.reference}"


class SymbolCatchUp(models.Model):
    """Until when the order history of one symbol is known to be in our book, and how far it has been read.

    A database restored from a backup lacks orders that the exchange has; nothing is sent on a symbol before its history
    has been read again.
    """

    account = models.ForeignKey(ExchangeAccount, on_delete=models.CASCADE, related_name="catch_ups")
    symbol = models.CharField(max_length=32)
    caught_up_at = models.DateTimeField(null=True, help_text="When the last complete reading began.")
    read_until = models.BigIntegerField(
        null=True, help_text="Exchange order id up to which every order since the first reading is in our book."
    )
    own_read_until = models.BigIntegerField(null=True, help_text="The same, but of our own orders only.")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["account", "symbol"], name="catch_up_unique_symbol")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.symbol}"


class Lease(models.Model):
    """Who does a piece of shared work now, across processes, so that overlapping runs do it once."""

    name = models.CharField(max_length=128, primary_key=True)
    holder = models.CharField(max_length=64, blank=True, default="")
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
