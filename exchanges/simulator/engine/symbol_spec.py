"""Describe a symbol: its assets, filters, order types and modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exchanges.simulator.engine.enums import OrderType, StpMode, SymbolStatus
from exchanges.simulator.engine.types import DECIMALS


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolSpec:
    """Describe a symbol as exchangeInfo does. `filters` are the documented JSON objects."""

    symbol: str
    base_asset: str
    quote_asset: str
    filters: tuple[dict[str, Any], ...] = ()
    status: SymbolStatus = SymbolStatus.TRADING
    order_types: tuple[OrderType, ...] = tuple(OrderType)
    iceberg_allowed: bool = True
    quote_order_qty_market_allowed: bool = True
    allow_trailing_stop: bool = True
    amend_allowed: bool = True
    default_stp_mode: StpMode = StpMode.EXPIRE_MAKER
    allowed_stp_modes: tuple[StpMode, ...] = (
        StpMode.NONE,
        StpMode.EXPIRE_TAKER,
        StpMode.EXPIRE_MAKER,
        StpMode.EXPIRE_BOTH,
        StpMode.DECREMENT,
    )
    permission_sets: tuple[tuple[str, ...], ...] = (("SPOT",),)

    @classmethod
    def from_exchange_info(cls, row: dict[str, Any]) -> SymbolSpec:
        """Read one entry of exchangeInfo's `symbols` and ignore its unknown keys."""
        return cls(
            symbol=row["symbol"],
            base_asset=row["baseAsset"],
            quote_asset=row["quoteAsset"],
            filters=tuple(row["filters"]),
            status=SymbolStatus(row.get("status", "TRADING")),
            order_types=tuple(OrderType(name) for name in row["orderTypes"]),
            iceberg_allowed=row.get("icebergAllowed", True),
            quote_order_qty_market_allowed=row.get("quoteOrderQtyMarketAllowed", True),
            allow_trailing_stop=row.get("allowTrailingStop", True),
            amend_allowed=row.get("amendAllowed", False),
            default_stp_mode=StpMode(row.get("defaultSelfTradePreventionMode", "NONE")),
            allowed_stp_modes=tuple(
                StpMode(mode) for mode in row.get("allowedSelfTradePreventionModes", ["NONE"])
            ),
            permission_sets=tuple(tuple(names) for names in row.get("permissionSets", [["SPOT"]])),
        )

    def exchange_info(self, status: SymbolStatus) -> dict[str, Any]:
        """Return the symbol's entry of exchangeInfo."""
        return {
            "symbol": self.symbol,
            "status": status.value,
            "baseAsset": self.base_asset,
            "baseAssetPrecision": DECIMALS,
            "quoteAsset": self.quote_asset,
            "quotePrecision": DECIMALS,
            "quoteAssetPrecision": DECIMALS,
            "baseCommissionPrecision": DECIMALS,
            "quoteCommissionPrecision": DECIMALS,
            "orderTypes": [kind.value for kind in self.order_types],
            "icebergAllowed": self.iceberg_allowed,
            "ocoAllowed": False,
            "otoAllowed": False,
            "opoAllowed": False,
            "quoteOrderQtyMarketAllowed": self.quote_order_qty_market_allowed,
            "allowTrailingStop": self.allow_trailing_stop,
            "cancelReplaceAllowed": False,
            "amendAllowed": self.amend_allowed,
            "pegInstructionsAllowed": False,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [dict(rule) for rule in self.filters],
            "permissions": [],
            "permissionSets": [list(names) for names in self.permission_sets],
            "defaultSelfTradePreventionMode": self.default_stp_mode.value,
            "allowedSelfTradePreventionModes": [mode.value for mode in self.allowed_stp_modes],
        }
