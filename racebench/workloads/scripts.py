"""pgbench's script language, parsed to steps.

The subset: SQL statements ended by `;`, `\\gset` or `\\aset`; `\\set`, `\\sleep`, `\\if`, `\\elif`, `\\else`,
`\\endif`; `\\startpipeline`, `\\endpipeline`; `:variables`. Anything else is refused by name and line. The compiler
(postgres/compiler) says how the steps run.
Source: pgbench's documentation, "Custom Scripts"; docs/scripts.md is the user's page.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from racebench.core.errors import ScenarioProblem
from racebench.core.model import Assign, Branch, Jump, Pipeline, Script, Sleep, Statement, Step
from racebench.core.plain_text import shortened
from racebench.workloads import expressions

_LONGEST_SLEEP_US = 86_400 * 1_000_000
_MOST_DIGITS = 19
_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}
_NAME = re.compile(r"[A-Za-z_]\w*")
_VARIABLE = re.compile(r"(?<!:):([A-Za-z_]\w*)")
_DOLLAR = re.compile(r"\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$")
_META = re.compile(r"\\(?P<name>[A-Za-z]+|;|\S?)[ \t]*(?P<rest>(?:\\\r?\n|[^\n])*)")
_SUPPORTED = r"\set, \gset, \aset, \sleep, \if, \elif, \else, \endif, \startpipeline, \endpipeline"
#: What ends a run of ordinary SQL: the start of a quoted part, a comment, a variable, an end, a bracket.
_SPECIAL = re.compile(r"""(?<![\w$])[eE]'|'|"|\$|--|/\*|::|:|\\|;|\(|\)|[^'"$\-/:\\;()eE\s]+|\s+|.""", re.DOTALL)


def parse(text: str, path: Path) -> Script:
    """Parse a script; raises ScenarioProblem with `path:line:` for anything outside the subset."""
    parsed = _Parser(text, path).parse()
    for statement in parsed.statements:
        if statement.keyword == "COPY":
            raise ScenarioProblem(f"{path}:{statement.line}: COPY is not supported in a script, as in pgbench")
    return parsed


def statement_lines(text: str) -> list[int]:
    """The line on which each SQL statement of a text begins; the first line for a text that does not parse."""
    parser = _Parser(text, Path())
    try:
        return [statement.line for statement in parser.parse().statements]
    except ScenarioProblem:
        return [1]


class _Parser:
    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self.path = path
        self.at = 0
        self.steps: list[Step] = []
        self.open: list[_If] = []
        self.pipeline: int | None = None
        self._reset()

    def _reset(self) -> None:
        self.written = ""
        self.sql = ""
        self.parameters: list[str] = []
        self.fragments: list[str] = [""]
        self.slots: list[str] = []
        self.depth = 0
        self.begun_at: int | None = None

    def problem(self, message: str, at: int | None = None) -> ScenarioProblem:
        line = self.text.count("\n", 0, self.at if at is None else at) + 1
        return ScenarioProblem(f"{self.path}:{line}: {message}")

    def _line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1

    def parse(self) -> Script:
        while self.at < len(self.text):
            match = _SPECIAL.match(self.text, self.at)
            assert match is not None  # the last alternative takes any character
            self._token(match.group())
        if self.begun_at is not None:
            if self.depth:
                raise self.problem("a parenthesis is never closed", self.begun_at)
            self._end_statement()
        if self.open:
            raise self.problem(r"\if without \endif", self.open[-1].at)
        if self.pipeline is not None:
            raise self.problem(r"\startpipeline without \endpipeline", self.pipeline)
        if not any(isinstance(step, Statement) for step in self.steps):
            raise ScenarioProblem(f"{self.path}:1: the script has no SQL statement")
        return Script(path=self.path, text=self.text, steps=tuple(self.steps))

    def _token(self, token: str) -> None:
        if token == "\\":
            self._meta()
        elif token == "--":
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
        elif token == "/*":
            self._comment()
        elif token.endswith("'") or token == '"':
            self._quoted(token)
        elif token == "$" and (opening := _DOLLAR.match(self.text, self.at)):
            self._until(self.text.find(opening.group(), opening.end()), opening.group())
        elif token == ":" and (variable := _VARIABLE.match(self.text, self.at)):
            self._variable(variable)
        elif token == ";" and self.depth == 0:
            self.at += 1
            if self.begun_at is not None:
                self._end_statement()
        else:
            self.depth += (token == "(") - (token == ")")
            self._take(token)

    def _take(self, written: str, sql: str | None = None) -> None:
        if self.begun_at is None:
            if not written.strip():
                self.at += len(written)
                return
            self.begun_at = self.at
        self.at += len(written)
        self.written += written
        self.sql += written if sql is None else sql
        if sql is None:
            self.fragments[-1] += written
        else:
            self.fragments.append("")

    def _variable(self, match: re.Match[str]) -> None:
        name = match.group(1)
        if name not in self.parameters:
            self.parameters.append(name)
        self.slots.append(name)
        self._take(match.group(), f"${self.parameters.index(name) + 1}")

    def _comment(self) -> None:
        start, depth = self.at, 0
        for match in re.finditer(r"/\*|\*/", self.text[start:]):
            depth += 1 if match.group() == "/*" else -1
            if depth == 0:
                if self.begun_at is not None and not self.written[-1].isspace():
                    self._take(" ")  # a comment separates words, as white space does
                self.at = start + match.end()
                return
        raise self.problem("a comment is never closed", start)

    def _quoted(self, opening: str) -> None:
        quote = opening[-1]
        pattern = (
            rf"(?:[^{quote}\\]|{quote}{quote}|\\.)*{quote}"
            if len(opening) == 2
            else rf"(?:[^{quote}]|{quote}{quote})*{quote}"
        )
        match = re.compile(pattern + f"(?!{quote})", re.DOTALL).match(self.text, self.at + len(opening))
        self._until(match.end() - 1 if match else -1, quote)

    def _until(self, end: int, closing: str) -> None:
        if end < 0:
            raise self.problem(f"a quoted part is never closed (expected {closing})")
        self._take(self.text[self.at : end + len(closing)])

    def _end_statement(self, *, gset: str | None = None, aset: str | None = None) -> None:
        assert self.begun_at is not None
        statement = Statement(
            line=self._line(self.begun_at),
            text=self.written.strip(),
            sql=self.sql.strip(),
            parameters=tuple(self.parameters),
            gset=gset,
            aset=aset,
            fragments=tuple(self.fragments),
            slots=tuple(self.slots),
        )
        self.steps.append(statement)
        self._reset()

    def _meta(self) -> None:
        match = _META.match(self.text, self.at)
        assert match is not None
        name = match["name"].lower()
        rest = re.sub(r"\\\r?\n", " ", match["rest"]).strip()
        if name in ("gset", "aset"):
            self._store(name, rest)
        elif name not in ("set", "sleep", "if", "elif", "else", "endif", "startpipeline", "endpipeline"):
            raise self.problem(f"\\{name} is not supported (supported: {_SUPPORTED})")
        elif self.begun_at is not None:
            raise self.problem(f"\\{name} inside a statement: end the statement with ';' before it")
        elif name == "set":
            self._assign(rest)
        elif name == "sleep":
            self._sleep(rest)
        elif name.endswith("pipeline"):
            self._pipeline(name, rest)
        elif self.pipeline is not None:
            raise self.problem(f"\\{name} inside a pipeline is not supported: end it with \\endpipeline before")
        else:
            self._branch(name, rest)
        self.at = match.end()

    def _store(self, name: str, rest: str) -> None:
        if self.begun_at is None:
            raise self.problem(f"\\{name} without a statement before it")
        if self.pipeline is not None:
            raise self.problem(f"\\{name} is not allowed in a pipeline, as in pgbench: the answer comes after it")
        if rest and not _NAME.fullmatch(rest):
            raise self.problem(f"\\{name} takes one prefix, not '{rest}'")
        if name == "gset":
            self._end_statement(gset=rest)
        else:
            self._end_statement(aset=rest)

    def _tree(self, text: str) -> expressions.Tree:
        try:
            return expressions.parse(text)
        except expressions.ExpressionError as problem:
            raise self.problem(f"in the expression '{shortened(text, 80)}': {problem}") from None

    def _assign(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if not _NAME.fullmatch(name) or not value.strip():
            raise self.problem(r"\set takes a name and an expression")
        self.steps.append(Assign(line=self._line(self.at), name=name, tree=self._tree(value)))

    def _sleep(self, rest: str) -> None:
        match = re.fullmatch(r"(?:(\d+)|:([A-Za-z_]\w*))(?:\s*(us|ms|s))?", rest)
        if match is None:
            raise self.problem(rf"\sleep takes a number or a :variable and us, ms or s, not '{shortened(rest, 40)}'")
        unit_us = _UNITS[match[3] or "s"]
        if match[1] and (len(match[1]) > _MOST_DIGITS or int(match[1]) * unit_us > _LONGEST_SLEEP_US):
            raise self.problem(rf"\sleep takes at most a day, not '{shortened(rest, 40)}'")
        amount: int | str = int(match[1]) if match[1] else match[2]
        self.steps.append(Sleep(line=self._line(self.at), amount=amount, unit_us=unit_us))

    def _pipeline(self, name: str, rest: str) -> None:
        start = name == "startpipeline"
        if rest:
            raise self.problem(rf"\{name} takes nothing after it, not '{rest}'")
        if start == (self.pipeline is not None):
            raise self.problem(rf"\{name} inside a pipeline" if start else rf"\{name} without \startpipeline")
        self.pipeline = self.at if start else None
        self.steps.append(Pipeline(line=self._line(self.at), start=start))

    def _branch(self, name: str, rest: str) -> None:
        if name == "if":
            self.open.append(_If(self.at))
        if not self.open:
            raise self.problem(rf"\{name} without \if")
        current = self.open[-1]
        if name in ("elif", "else") and current.otherwise:
            raise self.problem(rf"\{name} after \else")
        if name != "if":
            self._close_condition(current, jump=name != "endif")
        if name in ("if", "elif"):
            current.condition = len(self.steps)
            self.steps.append(Branch(line=self._line(self.at), tree=self._tree(rest), otherwise=-1))
        elif rest:
            raise self.problem(rf"\{name} takes nothing after it, not '{rest}'")
        elif name == "else":
            current.otherwise = True
        else:
            for index in current.jumps:
                self.steps[index] = Jump(line=self.steps[index].line, to=len(self.steps))
            self.open.pop()

    def _close_condition(self, current: _If, *, jump: bool) -> None:
        if jump:
            current.jumps.append(len(self.steps))
            self.steps.append(Jump(line=self._line(self.at), to=-1))
        if current.condition is not None:
            branch = self.steps[current.condition]
            assert isinstance(branch, Branch)
            self.steps[current.condition] = replace(branch, otherwise=len(self.steps))
            current.condition = None


class _If:
    """An \\if being parsed: the condition and the jumps that still need a target."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.condition: int | None = None
        self.jumps: list[int] = []
        self.otherwise = False
