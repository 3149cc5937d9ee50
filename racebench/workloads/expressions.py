"""pgbench's expressions (`\\set`, `\\if`): parsing to a tree, evaluating a tree.

A subset with pgbench's meaning: integers, doubles, booleans and NULL; `+ - * / %`, comparisons, `and or not`,
`is [not] null`; the functions in FUNCTIONS. Integer division truncates towards zero and `%` takes the sign
of its left side, as in C. What is outside the subset is refused by name.
Source: pgbench's documentation, "Built-in Operators" and "Built-In Functions".
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any

from racebench.core.plain_text import shortened

Value = int | float | bool | None
Tree = tuple[Any, ...]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+(?:[eE][+-]?\d+)?)"
    r"|:(?P<variable>[A-Za-z_]\w*)|(?P<word>[A-Za-z_]\w*)|(?P<sign><>|!=|<=|>=|<<|>>|[-+*/%()=<>,&|#~]))"
)
#: The deepest expression that is compiled and evaluated, which recurses.
_DEEPEST = 100
_MOST_DIGITS = 19  # of a 64-bit integer
_COMPARISONS = {"=", "<>", "!=", "<", "<=", ">", ">="}
#: name: (fewest arguments, most arguments)
FUNCTIONS = {
    "abs": (1, 1),
    "ceil": (1, 1),
    "double": (1, 1),
    "exp": (1, 1),
    "floor": (1, 1),
    "greatest": (1, 99),
    "int": (1, 1),
    "least": (1, 99),
    "ln": (1, 1),
    "mod": (2, 2),
    "pi": (0, 0),
    "power": (2, 2),
    "random": (2, 2),
    "random_exponential": (3, 3),
    "random_gaussian": (3, 3),
    "sqrt": (1, 1),
}


class ExpressionError(Exception):
    """An expression does not parse or cannot be evaluated; the message names the offending part."""


def parse(text: str) -> Tree:
    """Parse an expression to nested tuples: ("int", 3), ("var", "x"), ("+", left, right), ("call", name, …)."""
    too_deep = ExpressionError(f"it is nested too deeply (at most {_DEEPEST} deep)")
    parser = _Parser(text)
    if _nesting(parser.tokens) > _DEEPEST:  # before it is parsed: Python's own limit depends on the caller's depth
        raise too_deep
    try:
        tree = parser.parse()
    except RecursionError:
        raise too_deep from None
    if _depth(tree) > _DEEPEST:
        raise too_deep
    return tree


def _nesting(tokens: list[tuple[str, str]]) -> int:
    """How many parentheses are inside each other."""
    deepest = now = 0
    for _, text in tokens:
        now += (text == "(") - (text == ")")
        deepest = max(deepest, now)
    return deepest


def _depth(tree: Tree) -> int:
    """How many operators are inside each other; counted without recursion."""
    deepest, waiting = 0, [(tree, 1)]
    while waiting:
        part, depth = waiting.pop()
        deepest = max(deepest, depth)
        waiting += [(inner, depth + 1) for inner in part if isinstance(inner, tuple)]
    return deepest


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ExpressionError(f"unexpected '{text[position:].strip()[:10]}'")
            kind = match.lastgroup or ""
            token = match.group(kind)
            self.tokens.append((kind, token.lower() if kind == "word" else token))
            position = match.end()
        self.at = 0

    def parse(self) -> Tree:
        tree = self._or()
        if self.at < len(self.tokens):
            raise ExpressionError(f"unexpected '{self.tokens[self.at][1]}'")
        return tree

    def _next(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def _take(self, *texts: str) -> str | None:
        kind, text = self._next()
        if kind in ("sign", "word") and text in texts:
            self.at += 1
            return text
        return None

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise ExpressionError(f"expected '{text}' but found '{self._next()[1] or 'the end'}'")

    def _left(self, below: Callable[[], Tree], *signs: str) -> Tree:
        tree = below()
        while (sign := self._take(*signs)) is not None:
            tree = (sign, tree, below())
        return tree

    def _or(self) -> Tree:
        return self._left(self._and, "or")

    def _and(self) -> Tree:
        return self._left(self._not, "and")

    def _not(self) -> Tree:
        return ("not", self._not()) if self._take("not") else self._is()

    def _is(self) -> Tree:
        tree = self._comparison()
        while self._take("is"):
            negated = self._take("not") is not None
            kind, word = self._next()
            if kind != "word" or word not in ("null", "true", "false"):
                raise ExpressionError(f"expected NULL, TRUE or FALSE after IS, found '{word or 'the end'}'")
            self.at += 1
            tree = ("is", tree, {"null": None, "true": True, "false": False}[word])
            tree = ("not", tree) if negated else tree
        return tree

    def _comparison(self) -> Tree:
        return self._left(self._sum, *_COMPARISONS)

    def _sum(self) -> Tree:
        return self._left(self._product, "+", "-")

    def _product(self) -> Tree:
        return self._left(self._unary, "*", "/", "%")

    def _unary(self) -> Tree:
        if self._take("-"):
            return ("negate", self._unary())
        if self._take("+"):
            return self._unary()
        return self._primary()

    def _primary(self) -> Tree:
        kind, text = self._next()
        self.at += 1
        if kind == "number":
            if text.isdigit() and len(text.lstrip("0")) > _MOST_DIGITS:
                raise ExpressionError(f"'{shortened(text, 40)}' has more digits than a 64-bit integer")
            return ("value", int(text) if text.isdigit() else float(text))
        if kind == "variable":
            return ("var", text)
        if kind == "word" and text in ("null", "true", "false"):
            return ("value", {"null": None, "true": True, "false": False}[text])
        if kind == "word":
            return self._call(text)
        if text == "(":
            tree = self._or()
            self._expect(")")
            return tree
        raise ExpressionError(f"unexpected '{text or 'end of expression'}'")

    def _call(self, name: str) -> Tree:
        if name not in FUNCTIONS:
            raise ExpressionError(f"function '{name}' is not supported (supported: {', '.join(FUNCTIONS)})")
        self._expect("(")
        arguments: list[Tree] = []
        while not self._take(")"):
            if arguments:
                self._expect(",")
            arguments.append(self._or())
        fewest, most = FUNCTIONS[name]
        if not fewest <= len(arguments) <= most:
            raise ExpressionError(f"function '{name}' takes {fewest} arguments, not {len(arguments)}")
        return ("call", name, *arguments)


Compiled = Callable[[Mapping[str, bytes | None], Random], Value]


def evaluate(tree: Tree, variables: Mapping[str, bytes | None], random: Random) -> Value:
    """Evaluate a tree once; see `compiled`."""
    return compiled(tree)(variables, random)


def compiled(tree: Tree) -> Compiled:
    """Make a function of variables and randomness from a tree, for evaluating it again and again.

    A variable's text becomes an integer, a double, a boolean or NULL. The function raises ExpressionError for an unset
    or non-numeric variable, a division by zero, a wrong type.
    """
    head = tree[0]
    if head == "value":
        constant = tree[1]
        return lambda _variables, _random: constant
    if head == "var":
        name = tree[1]
        return lambda variables, _random: _number(name, variables)
    if head in ("and", "or"):
        return _logic(head, compiled(tree[1]), compiled(tree[2]))
    parts = [compiled(part) for part in tree[2 if head == "call" else 1 :] if isinstance(part, tuple)]
    if head in ("not", "is"):
        return _test(parts[0], tree[2] if head == "is" else None, negated=head == "not")
    return _application(tree[1] if head == "call" else head, parts)


def depends_on(tree: Tree, names: Collection[str]) -> bool:
    """Whether a tree depends on variables of these names alone: no other one is read, and nothing is drawn."""
    head = tree[0]
    if head == "value":
        return True
    if head == "var":
        return tree[1] in names
    drawn = head == "call" and tree[1] in _DRAWN
    return not drawn and all(depends_on(part, names) for part in tree[1:] if isinstance(part, tuple))


def _test(part: Compiled, wanted: Value, *, negated: bool) -> Compiled:
    """IS (NULL is something like any other) or, negated, NOT (of NULL it is NULL)."""

    def test(variables: Mapping[str, bytes | None], random: Random) -> Value:
        value = part(variables, random)
        if negated:
            return None if value is None else not value
        return value is None if wanted is None else value is not None and value == wanted

    return test


def _application(name: str, parts: list[Compiled]) -> Compiled:
    function, drawn = _FUNCTIONS.get(name), _DRAWN.get(name)
    skips_null = name in ("greatest", "least")

    def apply(variables: Mapping[str, bytes | None], random: Random) -> Value:
        values = [part(variables, random) for part in parts]
        if None in values:
            if not skips_null:
                return None
            values = [value for value in values if value is not None]
        try:
            return function(*values) if function is not None else drawn(random, *values)  # type: ignore[misc]
        except (ZeroDivisionError, ValueError, OverflowError) as problem:
            raise ExpressionError(f"{name}: {problem}") from None

    return apply


def render(value: Value) -> bytes | None:
    """Write a value as pgbench would store it in a variable: text, or None for NULL."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    return b"%d" % value if isinstance(value, int) else repr(value).encode()


_WORDS = {"true": True, "t": True, "on": True, "yes": True, "false": False, "f": False, "off": False, "no": False}


def _number(name: str, variables: Mapping[str, bytes | None]) -> Value:
    try:
        raw = variables[name]
    except KeyError:
        raise ExpressionError(f"variable :{name} is not set") from None
    if raw is None:
        return None
    for convert in (int, float):
        try:
            return convert(raw)
        except ValueError:
            continue
    text = raw.decode()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    raise ExpressionError(f"variable :{name} is '{text}', not a number")


def _logic(head: str, first: Compiled, second: Compiled) -> Compiled:
    """SQL's three-valued AND and OR; the right side is evaluated only if it can matter."""
    decides = head == "or"

    def decide(variables: Mapping[str, bytes | None], random: Random) -> Value:
        left = first(variables, random)
        if left is not None and bool(left) == decides:
            return bool(left)
        right = second(variables, random)
        if right is not None and bool(right) == decides:
            return bool(right)
        return None if left is None or right is None else not decides

    return decide


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(f"{value} is not an integer")
    return int(value)


def _divide(left: Any, right: Any) -> Value:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return float(left / right)


def _remainder(left: Any, right: Any) -> Value:
    return _whole(left) - _whole(right) * int(_divide(_whole(left), _whole(right)) or 0)


def _exponential(random: Random, low: Any, high: Any, parameter: Any) -> int:
    """pgbench's getExponentialRand: an exponential cut at `parameter` and stretched over low … high."""
    if parameter <= 0:
        raise ValueError("the parameter must be greater than zero")
    cut = math.exp(-parameter)
    drawn = -math.log(cut + (1 - cut) * (1.0 - random.random())) / parameter
    return _whole(low) + int((_whole(high) - _whole(low) + 1) * drawn)


def _gaussian(random: Random, low: Any, high: Any, parameter: Any) -> int:
    """pgbench's getGaussianRand: a normal deviate within ±parameter, stretched over low … high."""
    if parameter < 2:
        raise ValueError("the parameter must be at least 2.0")
    deviate = random.gauss(0.0, 1.0)
    while not -parameter <= deviate < parameter:
        deviate = random.gauss(0.0, 1.0)
    return _whole(low) + int((_whole(high) - _whole(low) + 1) * (deviate + parameter) / (parameter * 2.0))


_FUNCTIONS: dict[str, Callable[..., Value]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _remainder,
    "mod": _remainder,
    "negate": operator.neg,
    "abs": abs,
    "ceil": lambda x: float(math.ceil(x)),
    "double": float,
    "exp": math.exp,
    "floor": lambda x: float(math.floor(x)),
    "greatest": lambda *x: max(x, default=None),
    "int": lambda x: round(float(x)) if isinstance(x, float) else int(x),  # rint, as in pgbench: half to even
    "least": lambda *x: min(x, default=None),
    "ln": math.log,
    "pi": lambda: math.pi,
    "power": lambda x, y: float(x) ** float(y),
    "sqrt": math.sqrt,
}
_DRAWN: dict[str, Callable[..., Value]] = {
    "random": lambda random, low, high: random.randint(_whole(low), _whole(high)),
    "random_exponential": _exponential,
    "random_gaussian": _gaussian,
}
