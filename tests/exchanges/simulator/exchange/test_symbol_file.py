"""Read the simulator's symbols from a file, and refuse a file that can't be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exchanges.simulator import cli
from exchanges.simulator.engine.default_symbols import DEFAULT_SYMBOLS
from exchanges.simulator.engine.enums import SymbolStatus
from exchanges.simulator.engine.types import units
from exchanges.simulator.exchange.symbol_file import SymbolFileError, read_symbol_file


def row(**changes: Any) -> dict[str, Any]:
    """Return the entry of a symbol that no other list has."""
    entry = DEFAULT_SYMBOLS[0].exchange_info(SymbolStatus.TRADING)
    return entry | {"symbol": "ADAUSDT", "baseAsset": "ADA", "price": "0.35"} | changes


def written(folder: Path, data: Any) -> Path:
    path = folder / "symbols.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("is_answer", [True, False])
def test_build_exchange__trades_the_symbols_of_the_file(tmp_path: Path, is_answer: bool) -> None:
    rows = [row(), row(symbol="NEWUSDT", price="7.00")]
    path = written(tmp_path, {"symbols": rows} if is_answer else rows)
    arguments = ["--api-key", "k", "--api-secret", "s", "--symbols", str(path)]
    exchange = cli.build_exchange(cli.make_parser().parse_args(arguments))
    assert list(exchange.engine.symbols) == ["ADAUSDT", "NEWUSDT"]
    assert exchange.engine.last_price("ADAUSDT") == units("0.35")
    bid, ask = exchange.engine.best("ADAUSDT")
    assert bid is not None
    assert ask is not None
    assert bid[0] < units("0.35") < ask[0]
    exchange.reset()
    assert exchange.engine.last_price("NEWUSDT") == units("7")


def test_read_symbol_file__leaves_a_symbol_without_price_waiting(tmp_path: Path) -> None:
    entry = row()
    del entry["price"]
    assert read_symbol_file(written(tmp_path, [entry])).prices == {}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "no list of symbols"),
        ({"symbols": {}}, "no list of symbols"),
        ("BTCUSDT", "no list of symbols"),
        (["BTCUSDT"], "symbol 1"),
        ([row(), row()], "symbol 2: ADAUSDT comes twice"),
        ([{key: value for key, value in row().items() if key != "filters"}], "filters is missing"),
        ([row(status="OPEN")], "symbol 1: 'OPEN'"),
        ([row(orderTypes=["MAGIC"])], "symbol 1: 'MAGIC'"),
        ([row(price="0")], "ADAUSDT: its filters allow no price"),
        ([row(price="-1")], "ADAUSDT: its filters allow no price"),
        ([row(price="0.351")], "ADAUSDT: its filters allow no price"),
        ([row(price="1000001")], "ADAUSDT: its filters allow no price"),
        ([row(price="NaN")], "ADAUSDT: its filters allow no price"),
        ([row(price=0.35)], "ADAUSDT: its filters allow no price"),
    ],
)
def test_read_symbol_file__names_what_is_wrong(tmp_path: Path, data: Any, text: str) -> None:
    with pytest.raises(SymbolFileError, match=text):
        read_symbol_file(written(tmp_path, data))


def test_build_exchange__names_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    arguments = ["--api-key", "k", "--api-secret", "s", "--symbols", str(tmp_path / "none.json")]
    with pytest.raises(SystemExit, match=r"--symbols: .*none\.json"):
        cli.build_exchange(cli.make_parser().parse_args(arguments))
