"""Answer the few wallet API calls that clients make before they trade."""

from __future__ import annotations

from typing import Any

from exchanges.simulator.api.operations import Call, Operation, Security, Step, operation
from exchanges.simulator.engine.types import text


def api_restrictions(call: Call) -> Step:
    def step() -> Any:
        key = call.key
        assert key is not None  # signed operations only
        return {
            "ipRestrict": False,
            "createTime": key.created_ms,
            "enableReading": key.can_read,
            "enableSpotAndMarginTrading": key.can_trade,
            "enableWithdrawals": False,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enablePortfolioMarginTrading": False,
        }

    return step


def trade_fee(call: Call) -> Step:
    symbol = call.params.symbol()

    def step() -> Any:
        engine = call.exchange.engine
        owner = engine.account(call.account)
        names = [engine.spec(symbol).symbol] if symbol is not None else list(engine.symbols)
        return [
            {
                "symbol": name,
                "makerCommission": text(owner.commission_for(name).standard.maker),
                "takerCommission": text(owner.commission_for(name).standard.taker),
            }
            for name in names
        ]

    return step


def capital_config(call: Call) -> Step:
    def step() -> Any:
        engine = call.exchange.engine
        balances = engine.balances(call.account, at=call.at)
        assets = set(balances)
        for spec in engine.symbols.values():
            assets |= {spec.base_asset, spec.quote_asset}
        return [_coin_row(asset, *balances.get(asset, (0, 0))) for asset in sorted(assets)]

    return step


def _coin_row(asset: str, free: int, locked: int) -> dict[str, Any]:
    zero = "0"
    return {
        "coin": asset,
        "depositAllEnable": True,
        "withdrawAllEnable": True,
        "name": asset,
        "free": text(free),
        "locked": text(locked),
        "freeze": zero,
        "withdrawing": zero,
        "ipoing": zero,
        "ipoable": zero,
        "storage": zero,
        "isLegalMoney": False,
        "trading": True,
        "networkList": [],
    }


def account_status(call: Call) -> Step:
    return lambda: {"data": "Normal"}


def trading_status(call: Call) -> Step:
    def step() -> Any:
        return {
            "data": {
                "isLocked": False,
                "plannedRecoverTime": 0,
                "triggerCondition": {"GCR": 150, "IFER": 150, "UFR": 300},
                "updateTime": call.now_us() // 1000,
            }
        }

    return step


def no_margin_pairs(call: Call) -> Step:
    """Return no pairs: there is no margin trading, but clients ask while they load markets."""
    call.params.symbol()
    return list


_USER = Security.USER_DATA

WALLET_OPERATIONS: tuple[Operation, ...] = (
    operation("GET /sapi/v1/account/apiRestrictions", "", 1, "", api_restrictions, _USER),
    operation("GET /sapi/v1/asset/tradeFee", "", 1, "symbol", trade_fee, _USER),
    operation("GET /sapi/v1/capital/config/getall", "", 10, "", capital_config, _USER),
    operation("GET /sapi/v1/margin/allPairs", "", 1, "symbol", no_margin_pairs, _USER),
    operation("GET /sapi/v1/margin/isolated/allPairs", "", 10, "symbol", no_margin_pairs, _USER),
    operation("GET /sapi/v1/account/status", "", 1, "", account_status, _USER),
    operation("GET /sapi/v1/account/apiTradingStatus", "", 1, "", trading_status, _USER),
)
