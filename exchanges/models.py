"""The exchange as we know it: accounts, instruments, balances, and who fetches data right now."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from exchanges import clock
from exchanges.duty_models import DutyRun as DutyRun
from exchanges.fields import ExactDecimalField
from exchanges.halt_models import ScopedHalt as ScopedHalt
from exchanges.instrument_rules import InstrumentRules
from exchanges.lease_models import Lease as Lease
from exchanges.lease_models import LeaseChange as LeaseChange
from exchanges.types import CallKind


class Environment(models.TextChoices):
    LIVE = "live", _("live")
    TESTNET = "testnet", _("testnet")
    SIMULATOR = "simulator", _("simulator")


class TradingState(models.TextChoices):
    """FIX's words for an account's permission: everything, only less risk, nothing new."""

    ACTIVE = "ACTIVE", _("active")
    REDUCING = "REDUCING", _("reducing")
    HALTED = "HALTED", _("halted")


class ExchangeAccount(models.Model):
    """One account at one exchange. Its credentials and hosts are in the environment."""

    name = models.SlugField(
        _("name"),
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(r"^[a-z0-9][a-z0-9-]*\Z", _("Use lowercase letters, digits and dashes."))
        ],
        help_text=_(
            "The name can't be changed later: the names of the credentials and every order ID"
            " derive from it."
        ),
    )
    exchange = models.CharField(_("exchange"), max_length=32, default="binance")
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    trading_state = models.CharField(
        _("trading state"), max_length=16, choices=TradingState, default=TradingState.ACTIVE
    )
    trading_state_reason = models.TextField(_("reason"), blank=True, default="")
    trading_state_changed_at = models.DateTimeField(
        _("trading state changed at"), null=True, blank=True, editable=False
    )
    epoch = models.PositiveIntegerField(
        _("epoch"),
        default=0,
        db_default=0,
        editable=False,
        help_text=_("Increases when a person declares that the exchange was reset."),
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
            ("begin_epoch", _("Can declare that the exchange was reset")),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        # A live account starts halted, until a person or its safety check lets it trade.
        is_new_and_live = self._state.adding and self.environment == Environment.LIVE
        if is_new_and_live and self.trading_state == TradingState.ACTIVE:
            self.trading_state = TradingState.HALTED
            self.trading_state_reason = "a live account starts halted"
        super().save(*args, **kwargs)

    @property
    def last_synced_at(self) -> datetime | None:
        """Return the time when the last complete comparison of open orders started."""
        sync: AccountSync | None = getattr(self, "sync", None)
        return sync.last_synced_at if sync else None

    @property
    def balances_synced_at(self) -> datetime | None:
        """Return the time when the last complete balances were requested."""
        sync: AccountSync | None = getattr(self, "sync", None)
        return sync.balances_synced_at if sync else None


class AccountSync(models.Model):
    """The stamps of an account's processes, so that the account's row holds decisions only."""

    account = models.OneToOneField(
        ExchangeAccount,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="sync",
        verbose_name=_("account"),
    )
    last_synced_at = models.DateTimeField(
        _("last synced at"),
        null=True,
        blank=True,
        help_text=_("When the last complete comparison of open orders started."),
    )
    balances_synced_at = models.DateTimeField(
        _("balances synced at"),
        null=True,
        blank=True,
        help_text=_("When the last complete balances were requested."),
    )
    key_created_at = models.DateTimeField(_("API key made at"), null=True, editable=False)
    key_expires_at = models.DateTimeField(_("API key expires at"), null=True, editable=False)
    key_read_at = models.DateTimeField(
        null=True, editable=False, help_text=_("When the exchange last told both times.")
    )

    class Meta:
        verbose_name = _("account's sync")
        verbose_name_plural = _("accounts' syncs")

    def __str__(self) -> str:
        return f"{self.account}: {self.last_synced_at}"


class TradingHalt(models.Model):
    """The halt of everything: one row, which also binds accounts made later."""

    ROW = 1

    id = models.PositiveSmallIntegerField(primary_key=True, default=ROW)
    is_halted = models.BooleanField(_("halted"), default=False)
    reason = models.TextField(_("reason"), blank=True, default="")
    changed_at = models.DateTimeField(_("changed at"), default=clock.now)
    changed_by = models.CharField(_("changed by"), max_length=150, blank=True, default="")

    class Meta:
        verbose_name = _("global halt")
        verbose_name_plural = _("global halt")
        constraints: ClassVar = [
            models.CheckConstraint(condition=Q(id=1), name="trading_halt_is_one_row")
        ]

    def __str__(self) -> str:
        return "halted" if self.is_halted else "active"


CALL_KIND_LABELS = {
    CallKind.PLACE.value: _("placing"),
    CallKind.CANCEL.value: _("canceling"),
    CallKind.READ.value: _("reading"),
}


class BreakerHold(models.TextChoices):
    """The ways in which a person may hold a circuit breaker."""

    OPEN = "open", _("held open: such requests are not sent")
    CLOSED = "closed", _("held closed: requests are sent despite failures")
    NONE = "auto", _("automatic")


class BreakerChange(models.Model):
    """A person forced a circuit breaker, or let it go again: who, why and when. Append-only.

    The hold itself lives in Redis with the breaker. If Redis loses its data, the breaker decides by
    itself again.
    """

    account = models.ForeignKey(
        ExchangeAccount,
        on_delete=models.PROTECT,
        related_name="breaker_changes",
        verbose_name=_("account"),
    )
    kind = models.CharField(_("kind of call"), max_length=8, choices=CALL_KIND_LABELS)
    state = models.CharField(_("state"), max_length=8, choices=BreakerHold)
    reason = models.TextField(_("reason"))
    actor = models.CharField(_("actor"), max_length=150)
    at = models.DateTimeField(_("at"), default=clock.now)

    class Meta:
        ordering = ("-id",)
        verbose_name = _("circuit breaker change")
        verbose_name_plural = _("circuit breaker changes")

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
    filters = models.JSONField(
        _("filters"), default=list, help_text=_("The filters as exchangeInfo lists them.")
    )
    quote_precision = models.PositiveSmallIntegerField(_("quote precision"), default=8)
    quote_order_quantity_allowed = models.BooleanField(_("quote quantity allowed"), default=True)
    updated_at = models.DateTimeField(_("updated at"), default=clock.now)

    class Meta:
        ordering = ("symbol",)
        verbose_name = _("instrument")
        verbose_name_plural = _("instruments")
        constraints: ClassVar = [
            # Also the index behind the gate's look-up.
            models.UniqueConstraint(
                fields=["exchange", "environment", "symbol"], name="instrument_unique_symbol"
            )
        ]
        indexes: ClassVar = [
            # gate: is the quote asset money?
            models.Index(
                fields=["exchange", "environment", "base_asset", "quote_asset"],
                name="instrument_by_assets",
            )
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
    """exchangeInfo's `rateLimits` of one environment: the sizes of the shared budgets."""

    exchange = models.CharField(_("exchange"), max_length=32)
    environment = models.CharField(_("environment"), max_length=16, choices=Environment)
    rate_limits = models.JSONField(_("rate limits"), default=list)
    updated_at = models.DateTimeField(_("updated at"), default=clock.now)

    class Meta:
        verbose_name = _("rate limits")
        verbose_name_plural = _("rate limits")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["exchange", "environment"], name="rate_limits_unique_environment"
            )
        ]

    def __str__(self) -> str:
        return f"{self.exchange} {self.environment}"


def _by_type(filters: Any) -> dict[str, Any]:
    """Return filters by type, from exchangeInfo's list or from a dict that is by type already."""
    if isinstance(filters, dict):
        return dict(filters)
    return {item["filterType"]: item for item in filters}


@lru_cache(maxsize=4096)
def instrument_rules(instrument_id: int, updated_at: datetime) -> InstrumentRules:
    """Return the parsed rules of one version of an instrument, so that placing parses no JSON."""
    return Instrument.objects.get(pk=instrument_id).rules


class StreamState(models.Model):
    """The state of an account's user data stream. Only its listener writes it."""

    account = models.OneToOneField(
        ExchangeAccount, on_delete=models.CASCADE, related_name="stream", verbose_name=_("account")
    )
    connected_since = models.DateTimeField(_("connected since"), null=True, blank=True)
    in_sync_since = models.DateTimeField(
        _("in sync since"),
        null=True,
        blank=True,
        help_text=_("When the stream was subscribed and everything missed was read over REST."),
    )
    alive_at = models.DateTimeField(
        _("alive at"), help_text=_("When the listener last reported that it was running.")
    )
    last_event_at = models.DateTimeField(_("last event at"), null=True, blank=True)
    lag_ms = models.PositiveIntegerField(
        _("lag, ms"),
        null=True,
        blank=True,
        help_text=_("From the exchange's time of the last event until its commit in our database."),
    )
    reason = models.TextField(
        _("reason"), blank=True, default="", help_text=_("Why the stream isn't connected.")
    )

    class Meta:
        verbose_name = _("user stream")
        verbose_name_plural = _("user streams")

    def __str__(self) -> str:
        state = "in sync" if self.in_sync_since else self.reason or "not in sync"
        return f"{self.account}: {state}"

    def is_healthy(self, now: datetime) -> bool:
        """Return whether the stream is in sync, and its listener has said so just now."""
        return self.in_sync_since is not None and self.is_alive(now)

    def is_alive(self, now: datetime) -> bool:
        """Return whether the listener has reported within the last seconds."""
        return now - self.alive_at < STREAM_ALIVE_WITHIN


STREAM_ALIVE_WITHIN = timedelta(seconds=15)


class Balance(models.Model):
    """Free and locked amount of one asset, by the exchange's last report."""

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.PROTECT, related_name="balances", db_index=False
    )
    asset = models.CharField(_("asset"), max_length=32)
    free = ExactDecimalField(_("free"), default=0)
    locked = ExactDecimalField(_("locked"), default=0)
    reserved = ExactDecimalField(
        _("reserved"),
        default=0,
        help_text=_("Sum of the reservations. They cover orders that `free` doesn't reflect yet."),
    )
    updated_at = models.DateTimeField(
        _("updated at"), help_text=_("The exchange's time of these amounts.")
    )

    class Meta:
        ordering = ("account", "asset")
        verbose_name = _("balance")
        verbose_name_plural = _("balances")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "asset"], name="balance_unique_asset")
        ]

    def __str__(self) -> str:
        return f"{self.asset}: {self.free} / {self.locked}"


class LastPrice(models.Model):
    """The last trade on a symbol at the time of our last query."""

    exchange = models.CharField(max_length=32)
    environment = models.CharField(max_length=16, choices=Environment)
    symbol = models.CharField(max_length=32)
    price = ExactDecimalField()
    traded_at = models.DateTimeField(help_text="The exchange's time of the trade.")
    asked_at = models.DateTimeField(help_text="When we asked for it, by our clock.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["exchange", "environment", "symbol"], name="last_price_unique_symbol"
            )
        ]

    def __str__(self) -> str:
        return f"{self.symbol} {self.price}"


class Reservation(models.Model):
    """Money that one request may spend, held back until the exchange's balances show it."""

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="reservations", db_index=False
    )
    asset = models.CharField(max_length=32)
    reference = models.CharField(max_length=64, help_text="Client order ID of the request.")
    amount = ExactDecimalField()
    due_at = models.DateTimeField(
        null=True, help_text="From this exchange time on, the exchange's amounts include it."
    )
    created_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes: ClassVar = [
            # reservations.hand_over, release: WHERE account = ? AND reference = ?
            models.Index(fields=["account", "reference"], name="reservation_reference"),
            # reservations.release_shown: WHERE account = ? AND due_at IS NOT NULL
            models.Index(
                fields=["account"], name="reservation_due", condition=Q(due_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.asset} {self.reference}"


class SymbolCatchUp(models.Model):
    """Until when our book has the order history of one symbol, and how far it was read.

    A database restored from a backup lacks orders that the exchange has. Nothing is sent on a
    symbol before its history has been read again.
    """

    account = models.ForeignKey(
        ExchangeAccount, on_delete=models.CASCADE, related_name="catch_ups", db_index=False
    )
    symbol = models.CharField(max_length=32)
    caught_up_at = models.DateTimeField(null=True, help_text="When the last complete read began.")
    read_until = models.BigIntegerField(
        null=True,
        help_text="Exchange order ID up to which our book has every order since the first read.",
    )
    own_read_until = models.BigIntegerField(
        null=True, help_text="The same, for our own orders only."
    )
    looked_at = models.DateTimeField(
        null=True, help_text="When the last comparison looked at this symbol, whatever came of it."
    )
    failed_looks = models.PositiveSmallIntegerField(
        default=0, help_text="How many looks in a row have failed. The pauses grow with it."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="catch_up_unique_symbol")
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.symbol}"
