"""Store what a person decides about each account, and beside it what processes stamp."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from exchanges import clock


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
