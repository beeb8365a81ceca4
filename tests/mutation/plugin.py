"""Run the collected tests once, then for each mutant those that pass its line.

Each mutant has a child of this process, in which the code of its functions is exchanged, and whose
tests end with the first failure. So the servers and the imports are there already.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutation.mutants import Mutant, mutants_of

_OUR_PACKAGES = ("backoffice.", "exchanges.", "orders.", "tests.")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutate", action="append", default=[], help="a module's path; repeatable")
    parser.addoption("--mutate-lines", default="", help="only these lines: 10-20")
    parser.addoption("--most-tests", type=int, default=60, help="tests that a mutant may take")


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Take the place of pytest's own loop."""
    items = session.items
    wanted = [Path(each) for each in session.config.getoption("--mutate")]
    reached = _baseline(items, {str(path.resolve()) for path in wanted})
    for path in wanted:
        _mutate(path, items, reached[str(path.resolve())], session.config)
    return True


# -- which test passes which line ------------------------------------------------------------------

_ANY_LINE = 0
Reached = Mapping[str, Mapping[int, Mapping[int, float]]]  # file, line, test: its seconds


def _baseline(items: Sequence[pytest.Item], files: set[str]) -> Reached:
    """Run every test. The tests that fail by themselves notice nothing."""
    reached: dict[str, dict[int, dict[int, float]]] = {file: defaultdict(dict) for file in files}
    for number, item in enumerate(items):
        passed: set[tuple[str, int]] = set()

        def trace(frame: FrameType, event: str, _: Any, passed: Any = passed) -> Any:
            if frame.f_code.co_filename not in files:
                return None
            passed.add((frame.f_code.co_filename, frame.f_lineno))
            return trace

        began = time.monotonic()
        threading.settrace(trace)
        sys.settrace(trace)
        try:
            is_good = _passes(item, items[(number + 1) % len(items)])
        finally:
            sys.settrace(None)
            threading.settrace(None)
        if not is_good:
            print(f"\nfails without a change, so it is left out: {item.nodeid}")
            continue
        spent = time.monotonic() - began
        for file in files:
            reached[file][_ANY_LINE][number] = spent
        for file, line in passed:
            reached[file][line][number] = spent
    return reached


def _passes(item: pytest.Item, following: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=following)
    return not any(report.failed for report in reports)


# -- one module ------------------------------------------------------------------------------------


def _mutate(
    path: Path,
    items: Sequence[pytest.Item],
    lines: Mapping[int, Mapping[int, float]],
    config: pytest.Config,
) -> None:
    module = importlib.import_module(".".join(path.with_suffix("").parts))
    first, _, last = config.getoption("--mutate-lines").partition("-")
    counts: dict[str, int] = defaultdict(int)
    everything = lines[_ANY_LINE]
    if _verdict(module, None, [items[number] for number in everything]) != "survives":
        pytest.exit(f"{path}: the tests fail in a child, without any change")
    for mutant in mutants_of(path.read_text()):
        if first and not int(first) <= mutant.line <= int(last or first):
            continue
        tests = everything
        if not _is_outside_functions(mutant):
            rows = [lines.get(at, {}) for at in range(mutant.line, mutant.last_line + 1)]
            tests = {number: spent for row in rows for number, spent in row.items()}
        chosen = sorted(tests, key=lambda number: (tests[number], number))
        chosen = chosen[: config.getoption("--most-tests")]
        verdict = _verdict(module, mutant, [items[number] for number in chosen])
        counts[verdict] += 1
        if verdict in ("survives", "no test"):
            print(f"\n{path}:{mutant.line}: {verdict}: {mutant.what}", flush=True)
    print(f"\n{path}: {dict(counts)}", flush=True)


def _is_outside_functions(mutant: Mutant) -> bool:
    functions = [
        node
        for node in ast.walk(mutant.tree)
        if isinstance(node, ast.FunctionDef) and node.lineno <= mutant.line <= _end(node)
    ]
    return not functions


def _end(node: ast.FunctionDef) -> int:
    return node.end_lineno or node.lineno


def _verdict(module: ModuleType, mutant: Mutant | None, items: Sequence[pytest.Item]) -> str:
    if not items:
        return "no test"
    from django.db import connections

    connections.close_all()
    child = os.fork()
    if child == 0:
        code = 1  # whatever the child meets, it has noticed something
        with suppress(BaseException):
            code = _in_child(module, mutant, items)
        os._exit(code)
    give_up_at = time.monotonic() + 20 + 3 * len(items)
    while time.monotonic() < give_up_at:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return {0: "survives", 2: "same code"}.get(os.waitstatus_to_exitcode(status), "killed")
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "too slow"


def _in_child(module: ModuleType, mutant: Mutant | None, items: Sequence[pytest.Item]) -> int:
    """Return 0 if no test notices the mutant, 1 if one does, 2 if it changes nothing."""
    os.setpgid(0, 0)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _forget_connections()
    try:
        if mutant is not None and not _exchange(module, mutant.tree):
            return 2
    except Exception:  # noqa: BLE001  the module can't even be loaded
        return 1
    for number, item in enumerate(items):
        if not _passes(item, items[(number + 1) % len(items)]):
            return 1
    return 0


def _forget_connections() -> None:
    """Let the child make its own connections to Redis."""
    from exchanges.limits import redis

    for name in ("_client", "_script"):
        getattr(redis, name).cache_clear()


# -- exchanging the code ---------------------------------------------------------------------------


def _exchange(module: ModuleType, tree: ast.Module) -> bool:
    """Give the module's functions and values those of the mutant, wherever they were imported."""
    names = {"__name__": module.__name__, "__file__": module.__file__}
    names |= {"__package__": module.__package__}
    sys.modules[module.__name__] = changed = ModuleType(module.__name__)  # for dataclasses
    changed.__dict__.update(names)
    try:
        exec(compile(tree, str(module.__file__), "exec"), changed.__dict__)
    finally:
        sys.modules[module.__name__] = module
    is_other = False
    for name, new in list(changed.__dict__.items()):
        old = module.__dict__.get(name)
        for was, now in _functions(old, new):
            if _differs(was.__code__, now.__code__):
                was.__code__ = now.__code__
                is_other = True
        if not name.startswith("__") and _is_value(old) and _is_value(new) and old != new:
            _replace(name, old, new)
            is_other = True
    return is_other


def _differs(one: CodeType, other: CodeType) -> bool:
    return one.co_code != other.co_code or one.co_consts != other.co_consts or one != other


def _functions(old: Any, new: Any) -> Iterator[tuple[FunctionType, FunctionType]]:
    old, new = _plain(old), _plain(new)
    if isinstance(old, FunctionType) and isinstance(new, FunctionType):
        yield old, new
    elif inspect.isclass(old) and inspect.isclass(new) and old.__module__ == new.__module__:
        for name, own in list(vars(new).items()):
            if not name.startswith("__") and name in vars(old):
                yield from _functions(vars(old)[name], own)


def _plain(value: Any) -> Any:
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    while hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float | dict | set | frozenset | tuple | list) or (
        type(value).__module__ in ("decimal", "datetime")
    )


def _replace(name: str, old: Any, new: Any) -> None:
    for own in [row for key, row in sys.modules.items() if key.startswith(_OUR_PACKAGES)]:
        for key, value in list(vars(own).items()):
            if value is old and (key == name or not isinstance(old, str | int | float)):
                setattr(own, key, new)
