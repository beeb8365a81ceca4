"""Run the simulator from a shell."""

from __future__ import annotations

import argparse
import errno
import logging
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path

from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.past import LONGEST_PAST_DAYS
from exchanges.simulator.engine.types import OrderLimit, units
from exchanges.simulator.exchange.exchange import Exchange, Settings
from exchanges.simulator.exchange.persistence import StateError, StateFile
from exchanges.simulator.exchange.rate_limits import LimitSettings
from exchanges.simulator.exchange.symbol_file import (
    SymbolFile,
    SymbolFileError,
    read_symbol_file,
)
from exchanges.simulator.server.server import SimulatorServer, run

DEFAULT_LISTED = SymbolFile(DEFAULT_SYMBOLS, {})
DEFAULT_BALANCES = "USDT=100000,BTC=1"


def read_balances(value: str) -> dict[str, int]:
    """Read `USDT=100000,BTC=1` as units by asset."""
    balances: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in value.split(","))):
        asset, _, amount = item.partition("=")
        try:
            number = Decimal(amount)
            if not asset or not number.is_finite() or number < 0:
                raise ValueError
            balances[asset.strip().upper()] = units(number)
        except (InvalidOperation, ValueError) as error:
            raise argparse.ArgumentTypeError(f"{item!r} is not ASSET=AMOUNT") from error
    return balances


def read_past_days(value: str) -> int:
    if not value.isdecimal() or int(value) > LONGEST_PAST_DAYS:
        raise argparse.ArgumentTypeError(f"{value!r} is not from 0 to {LONGEST_PAST_DAYS}")
    return int(value)


def make_parser(prog: str = "simulator") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description="A simulator of the Binance Spot exchange on one port."
    )
    add_arguments(parser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=9080, help="port to listen on, 0 for a free one")
    add("--api-key", required=True, help="API key of the first account")
    add("--api-secret", help="HMAC secret, or Ed25519 or RSA key as PEM text")
    add("--api-secret-file", type=Path, help="file with the secret")
    add("--account", default="main", help="name of the first account")
    add(
        "--balances",
        type=read_balances,
        default=DEFAULT_BALANCES,
        help="first balances, ASSET=AMOUNT,...",
    )
    add(
        "--more-account",
        nargs=4,
        action="append",
        default=[],
        metavar=("NAME", "KEY", "SECRET", "BALANCES"),
        help="another account with its key, may be repeated",
    )
    add(
        "--symbols",
        type=Path,
        help="file with the symbols as exchangeInfo lists them, each with a first `price`",
    )
    add("--seed", type=int, default=0, help="seed of prices, quotes and ids")
    add(
        "--past-days",
        type=read_past_days,
        default=0,
        help=f"days of trades and candles before the first start, up to {LONGEST_PAST_DAYS}",
    )
    add(
        "--frozen",
        action="store_true",
        help="run no market maker",
    )
    add("--tick-ms", type=float, default=250.0, help="time between moves of the market")
    add("--latency-ms", type=float, default=0.0, help="delay of every answer")
    add("--weight-limit", type=int, default=6_000, help="request weight per minute and address")
    add("--raw-limit", type=int, default=300_000, help="requests per five minutes and address")
    add(
        "--order-limit-10s",
        type=int,
        default=100,
        help="unfilled orders per ten seconds and account, 0 for none",
    )
    add(
        "--order-limit-day",
        type=int,
        default=200_000,
        help="unfilled orders per day and account, 0 for none",
    )
    add(
        "--connection-limit",
        type=int,
        default=300,
        help="WebSocket connections per five minutes and address",
    )
    add("--ping-seconds", type=float, default=20.0, help="time between WebSocket pings")
    add(
        "--pong-seconds",
        type=float,
        default=60.0,
        help="close a WebSocket that sends no pong for this long",
    )
    add("--connection-seconds", type=float, default=86_400.0, help="life of a WebSocket connection")
    add("--state", type=Path, help="file that keeps orders, trades and balances across restarts")
    add(
        "--history-limit",
        type=int,
        default=10_000,
        help="closed orders and trades kept per account",
    )


def build_exchange(options: argparse.Namespace) -> Exchange:
    settings = Settings(
        seed=options.seed,
        frozen=options.frozen,
        latency_ms=options.latency_ms,
        tick_seconds=options.tick_ms / 1000,
        ping_seconds=options.ping_seconds,
        pong_seconds=options.pong_seconds,
        connection_seconds=options.connection_seconds,
        history_limit=options.history_limit,
        past_days=options.past_days,
    )
    limits = LimitSettings(
        request_weight=options.weight_limit,
        raw_requests=options.raw_limit,
        ws_connections=options.connection_limit,
    )
    orders = (
        OrderLimit("SECOND", 10, options.order_limit_10s),
        OrderLimit("DAY", 1, options.order_limit_day),
    )
    listed = DEFAULT_LISTED if options.symbols is None else _read_symbols(options.symbols)
    exchange = Exchange(
        settings,
        limits=limits,
        order_limits=orders,
        symbols=listed.symbols,
        prices=listed.prices,
    )
    if options.state is not None:
        saved = StateFile(options.state).read(exchange.clock)
        if saved is not None:
            exchange.restore(*saved)
    exchange.add_first_account(options.account, options.balances)
    exchange.add_first_key(options.api_key, _secret(options), options.account)
    for name, key, secret, balances in options.more_account:
        exchange.add_first_account(name, _read_more_balances(balances))
        exchange.add_first_key(key, secret, name)
    return exchange


def _read_symbols(path: Path) -> SymbolFile:
    try:
        return read_symbol_file(path)
    except SymbolFileError as error:
        raise SystemExit(f"simulator: --symbols: {path}: {error}") from error


def _read_more_balances(text: str) -> dict[str, int]:
    try:
        return read_balances(text)
    except argparse.ArgumentTypeError as error:
        raise SystemExit(f"simulator: --more-account: {error}") from error


def _secret(options: argparse.Namespace) -> str:
    if options.api_secret_file is not None:
        return str(options.api_secret_file.read_text()).strip()
    if options.api_secret is None:
        raise SystemExit("simulator: --api-secret or --api-secret-file is needed")
    return str(options.api_secret)


def main(argv: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    return serve(make_parser().parse_args(argv))


def serve(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT and return the exit status.

    Prints one line to standard output, with the address, once the port is open.
    """
    try:
        exchange = build_exchange(options)
    except (StateError, OSError) as error:
        print(f"simulator: {options.state}: {error}", file=sys.stderr)
        return 1
    state = None if options.state is None else StateFile(options.state)

    def ready(server: SimulatorServer) -> None:
        print(f"simulator ready on http://{options.host}:{server.port}", flush=True)

    try:
        run(exchange, options.host, options.port, ready, state)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        print(f"simulator: port {options.port} is taken", file=sys.stderr)
        return 1
    return 0
