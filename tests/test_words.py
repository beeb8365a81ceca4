"""Keep the project's English plain: no archaic words, no docstring that starts with What or Who."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.harness.processes import ROOT

ARCHAIC = re.compile(
    r"\b(anew|wish(es|ed|ing)?|tells? of|told of|telling of|for ever)\b", re.IGNORECASE
)
KINDS = (".py", ".md", ".po", ".html", ".yaml", ".yml", ".toml", ".example")
FOLDERS = ("backoffice", "docs", "examples", "exchanges", "locale", "orders", "tests", ".github")


def texts() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of every file that people read."""
    paths = [*ROOT.iterdir(), *(path for name in FOLDERS for path in (ROOT / name).rglob("*"))]
    for path in paths:
        if path.is_file() and path.name.endswith(KINDS) and path != Path(__file__):
            yield str(path.relative_to(ROOT)), path.read_text()


def findings(name: str, text: str) -> list[str]:
    """Return the archaic words of a file, and its docstrings that start with What or Who."""
    found = [match.group() for match in ARCHAIC.finditer(text)]
    if name.endswith(".py"):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
        docs = [ast.get_docstring(node) or "" for node in nodes]
        found += [doc[:40] for doc in docs if re.match(r"(What|Who)\b", doc)]
    return found


def test_words__are_plain() -> None:
    found = {name: problems for name, text in texts() if (problems := findings(name, text))}
    assert found == {}
