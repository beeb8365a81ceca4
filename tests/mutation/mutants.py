"""Make the mutants of a module: copies of its syntax tree that differ from it in one place."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

_OTHER_SIDE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_OTHER_SIGN: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_OTHER_NAME = {"max": "min", "min": "max", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed tree: the lines of the change, and what it does in words."""

    line: int
    last_line: int
    what: str
    tree: ast.Module


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield every mutant. Annotations, asserts, decorators and plain texts stay as they are."""
    tree = ast.parse(source)
    places = list(_places(tree, ()))
    for place in places:
        for number, (what, _) in enumerate(_changes(_at(tree, place))):
            changed = copy.deepcopy(tree)
            node = _at(changed, place)
            line, last = node.lineno, _head(node).end_lineno or node.lineno
            list(_changes(node))[number][1](partial(_put, changed, place))
            yield Mutant(line, last, what, ast.fix_missing_locations(changed))


def _head(node: Any) -> Any:
    """Return the part of a statement that is run before its body."""
    return node.test if isinstance(node, ast.If | ast.While) else node


Path = tuple[tuple[str, int | None], ...]
_SKIPPED = {"annotation", "returns", "decorator_list", "type_params", "bases"}


def _places(node: ast.AST, path: Path) -> Iterator[Path]:
    if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return
    if isinstance(node, ast.expr | ast.stmt):
        yield path
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED or (isinstance(node, ast.arguments) and "default" in name):
            continue
        if isinstance(node, ast.Call) and _is_log(node):
            continue
        if isinstance(value, list):
            for number, each in enumerate(value):
                if isinstance(each, ast.AST):
                    yield from _places(each, (*path, (name, number)))
        elif isinstance(value, ast.AST):
            yield from _places(value, (*path, (name, None)))


def _is_log(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "log"


def _at(tree: ast.AST, path: Path) -> Any:
    node: Any = tree
    for name, number in path:
        node = getattr(node, name)
        node = node if number is None else node[number]
    return node


def _put(tree: ast.AST, path: Path, new: ast.AST) -> None:
    *before, (name, number) = path
    owner = _at(tree, tuple(before))
    ast.copy_location(new, _at(tree, path))
    if number is None:
        setattr(owner, name, new)
    else:
        getattr(owner, name)[number] = new


Put = Callable[[ast.AST], None]
Change = tuple[str, Callable[[Put], None]]


def _changes(node: ast.AST) -> list[Change]:
    """Return the changes of one node, each as words and as a function that makes it."""
    text = ast.unparse(node).partition("\n")[0][:70]
    found: list[tuple[str, ast.AST]] = list(_others(node))
    return [
        (f"{text}  ->  {words}", lambda put, new=new: put(new))  # type: ignore[misc]
        for words, new in found
    ]


def _others(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for new in _other_nodes(node):
        yield ast.unparse(new).partition("\n")[0][:70] or "nothing", new


def _other_nodes(node: ast.AST) -> Iterator[ast.AST]:  # noqa: C901  one case for each kind
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                for other in _OTHER_SIDE[type(operator)]:
                    ops = [*node.ops]
                    ops[number] = other()
                    yield ast.Compare(node.left, ops, node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
            for number in range(len(node.values)):
                yield _without(node, number)
        case ast.UnaryOp(ast.Not()):
            yield node.operand
        case ast.BinOp() if type(node.op) in _OTHER_SIGN:
            yield ast.BinOp(node.left, _OTHER_SIGN[type(node.op)](), node.right)
        case ast.Constant():
            yield from _other_constant(node)
        case ast.If() | ast.While() if not isinstance(node.test, ast.Compare | ast.UnaryOp):
            yield type(node)(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.Return() if not _is_none(node.value):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(ast.Call() as call) if not _is_log(call):
            yield ast.Pass()
        case ast.Raise() | ast.AugAssign() | ast.Continue():
            yield ast.Pass()
        case ast.Call(ast.Name(name)) if name in _OTHER_NAME:
            yield ast.Call(ast.Name(_OTHER_NAME[name], ast.Load()), node.args, node.keywords)
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() if node.generators[0].ifs:
            first, *rest = node.generators
            open_one = ast.comprehension(first.target, first.iter, [], first.is_async)
            yield type(node)(node.elt, [open_one, *rest])
        case ast.Set():
            for number in range(len(node.elts)):
                yield ast.Set(_all_but(node.elts, number))
        case ast.Dict():
            for number in range(len(node.keys)):
                yield ast.Dict(_all_but(node.keys, number), _all_but(node.values, number))


def _without(node: ast.BoolOp, number: int) -> ast.expr:
    rest = _all_but(node.values, number)
    return rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)


def _all_but(values: Sequence[Any], number: int) -> list[Any]:
    return [value for at, value in enumerate(values) if at != number]


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _other_constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int | float):
        yield ast.Constant(value + 1)
    elif isinstance(value, str) and value.isupper() and value.replace("_", "").isalnum():
        yield ast.Constant(f"{value}_")  # a code, not a text
