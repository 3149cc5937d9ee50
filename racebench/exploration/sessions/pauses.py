"""Whether a number that an application's code draws is only used to pause: a retry's back-off with jitter.

Read from the source: within one function, the call that draws must be in an argument of a sleep, or be assigned to
names that are only used in such arguments. Whatever cannot be read counts as used for more. Nothing is run.
"""

from __future__ import annotations

import ast
import functools
import linecache
from collections.abc import Iterator
from types import FrameType

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def only_pauses(frame: FrameType) -> bool:
    """Whether the result of the call that a frame is in only reaches sleeps."""
    return _only_pauses(frame.f_code.co_filename, _call_of(frame))


def _call_of(frame: FrameType) -> tuple[int | None, ...]:
    """The end of the expression that a frame is in: its line, its column in bytes."""
    for place, (_, end_line, _, end_column) in enumerate(frame.f_code.co_positions()):
        if place == frame.f_lasti // 2:
            return end_line, end_column
    return ()


@functools.lru_cache(maxsize=1000)
def _only_pauses(path: str, end: tuple[int | None, ...]) -> bool:
    try:
        tree = ast.parse("".join(linecache.getlines(path)))
    except (SyntaxError, ValueError):
        return False
    parents = {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and (node.end_lineno, node.end_col_offset) == end
    ]
    return bool(calls) and all(_reaches_only_sleeps(call, parents, set()) for call in calls)


def _reaches_only_sleeps(node: ast.AST, parents: dict[ast.AST, ast.AST], followed: set[str]) -> bool:
    """Whether the value of an expression is used for nothing but the argument of sleeps."""
    child = node
    while (parent := parents.get(child)) is not None and isinstance(parent, ast.expr):
        if isinstance(parent, ast.Call) and child is not parent.func and _name(parent.func) == "sleep":
            return True
        if not isinstance(parent, ast.BinOp | ast.UnaryOp | ast.Call) or child is getattr(parent, "func", None):
            return False
        child = parent
    targets = parent.targets if isinstance(parent, ast.Assign) else [getattr(parent, "target", None)]
    if not isinstance(parent, ast.Assign | ast.AnnAssign | ast.AugAssign) or child is not parent.value:
        return False
    function = _function_of(parent, parents)
    for target in targets:
        if not isinstance(target, ast.Name) or function is None or target.id in _elsewhere(function):
            return False
        if target.id in followed:
            continue
        followed.add(target.id)
        uses = [
            use
            for use in ast.walk(function)
            if isinstance(use, ast.Name) and use.id == target.id and isinstance(use.ctx, ast.Load)
        ]
        if not all(_reaches_only_sleeps(use, parents, followed) for use in uses):
            return False
    return True


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _function_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> _Function | None:
    above: ast.AST | None = node
    while above is not None and not isinstance(above, _Function):
        above = parents.get(above)
    return above


def _elsewhere(function: _Function) -> Iterator[str]:
    """The names in a function that are not its own."""
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield from node.names
