"""isolationtester's spec files, read into values: setup, teardown, sessions, steps and permutations.

The format is PostgreSQL's (src/test/isolation/README). An SQL block ends at the first `}`; `#` begins a comment outside
one. Pure: a text in, a Spec out, or a ScenarioProblem with file, line and column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from racebench.core.errors import ScenarioProblem, suggest


class Kind(Enum):
    """What delays a step's completion: ONCE `*`; STEP another step; NOTICES a number of notices of a step's session."""

    ONCE = "*"
    STEP = "step"
    NOTICES = "notices"


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A marker of a permutation's step."""

    kind: Kind
    step: str = ""
    notices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationStep:
    """A step in a permutation, with what delays its completion."""

    step: str
    blockers: tuple[Blocker, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecStep:
    """A named step: one SQL block."""

    name: str
    sql: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecSession:
    """A named session. `setup` and `teardown` are None if it has none."""

    name: str
    setup: str | None
    steps: tuple[SpecStep, ...]
    teardown: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A whole file. Without permutations all are run. `unused`: the steps that no permutation has."""

    setups: tuple[str, ...]
    teardown: str | None
    sessions: tuple[SpecSession, ...]
    permutations: tuple[tuple[PermutationStep, ...], ...]
    unused: tuple[str, ...] = ()
    owners: dict[str, int] = field(default_factory=dict)

    def step(self, name: str) -> SpecStep:
        """The step of that name."""
        return next(step for step in self.sessions[self.owners[name]].steps if step.name == name)

    def all_permutations(self) -> Iterator[tuple[PermutationStep, ...]]:
        """The file's permutations, or every way to interleave the sessions' steps, the first session's first."""
        if self.permutations:
            yield from self.permutations
            return
        names = [[step.name for step in session.steps] for session in self.sessions]
        yield from _interleavings(names, [0] * len(names), [])


def _interleavings(
    names: list[list[str]], taken: list[int], steps_so_far: list[PermutationStep]
) -> Iterator[tuple[PermutationStep, ...]]:
    if len(steps_so_far) == sum(map(len, names)):
        yield tuple(steps_so_far)
        return
    for session, steps in enumerate(names):
        if taken[session] < len(steps):
            step = PermutationStep(step=steps[taken[session]])
            taken[session] += 1
            yield from _interleavings(names, taken, [*steps_so_far, step])
            taken[session] -= 1


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # word (a keyword or a name), name (quoted), sql, number, or one of , ( ) *
    text: str
    at: int


_KEYWORDS = ("setup", "teardown", "session", "step", "permutation")
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\f\v\n]+|\#[^\n\r]*)"
    r"|(?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)"
    r'|(?P<name>"(?:[^"\n]|"")*")'
    r"|\{[ \t\r\f\v]*(?P<sql>[^}]*?)[ \t\r\f\v]*\}"
    r"|(?P<number>[0-9]+)"
    r"|(?P<self>[,()*])"
)


def parse(text: str, file: str) -> Spec:
    """Read a spec; raises ScenarioProblem as `file:line:column: what is wrong` at the first thing that is."""
    return _Parser(text, file).spec()


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self.tokens = list(self._scan())
        self.next = 0

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None:
                raise self._unreadable(at)
            kind = match.lastgroup or ""
            if kind == "name":
                yield _Token("name", match["name"][1:-1].replace('""', '"'), at)
            elif kind == "self":
                yield _Token(match["self"], match["self"], at)
            elif kind != "space":
                yield _Token(kind, match[kind], at)
            at = match.end()
        yield _Token("end", "", at)

    def _unreadable(self, at: int) -> ScenarioProblem:
        if self.text[at] == "{":
            return self.problem(at, "this SQL block has no end; close it with }")
        if self.text[at] == '"':
            return self.problem(at, "this name has no closing quote on its line")
        return self.problem(at, f"unexpected character '{self.text[at]}'")

    def problem(self, at: int, message: str) -> ScenarioProblem:
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        return ScenarioProblem(f"{self.file}:{line}:{column}: {message}")

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def take(self) -> _Token:
        self.next += 1
        return self.tokens[self.next - 1]

    def at_keyword(self, word: str) -> bool:
        return self.token.kind == "word" and self.token.text == word

    def keyword(self, word: str) -> bool:
        """Take a keyword if it is there."""
        is_there = self.at_keyword(word)
        self.next += is_there
        return is_there

    def name(self, what: str) -> _Token:
        token = self.token
        if token.kind == "name" or (token.kind == "word" and token.text not in (*_KEYWORDS, "notices")):
            return self.take()
        raise self.unexpected(f"the name of a {what}")

    def block(self, what: str) -> str:
        if self.token.kind != "sql":
            raise self.unexpected(f"the SQL of the {what} in {{ }}")
        return self.take().text

    def unexpected(self, wanted: str) -> ScenarioProblem:
        token = self.token
        text = (
            "the end of the file" if token.kind == "end" else f"'{token.text.splitlines()[0] if token.text else '{}'}'"
        )
        return self.problem(token.at, f"expected {wanted}, found {text}")

    def spec(self) -> Spec:
        setups = []
        while self.keyword("setup"):
            setups.append(self.block("setup"))
        teardown = self.block("teardown") if self.keyword("teardown") else None
        owners: dict[str, int] = {}
        sessions: list[SpecSession] = []
        while not sessions or self.at_keyword("session"):
            if not self.keyword("session"):
                raise self.unexpected("a session" if teardown is not None else "setup, teardown or a session")
            sessions.append(self.session(len(sessions), owners))
        permutations = []
        while self.keyword("permutation"):
            permutations.append(self.permutation(owners))
        if self.token.kind != "end":
            raise self.unexpected("a permutation" if permutations else "a step, teardown, a session or a permutation")
        used = {step.step for permutation in permutations for step in permutation}
        return Spec(
            setups=tuple(setups),
            teardown=teardown,
            sessions=tuple(sessions),
            permutations=tuple(permutations),
            unused=tuple(sorted(name for name in owners if name not in used)) if permutations else (),
            owners=owners,
        )

    def session(self, number: int, owners: dict[str, int]) -> SpecSession:
        name = self.name("session").text
        setup = self.block("setup") if self.keyword("setup") else None
        steps: list[SpecStep] = []
        while not steps or self.at_keyword("step"):
            if not self.keyword("step"):
                raise self.unexpected("a step")
            token = self.name("step")
            if token.text in owners:
                raise self.problem(
                    token.at, f"there is a step '{token.text}' already; a name is unique over all sessions"
                )
            owners[token.text] = number
            line = self.text.count("\n", 0, token.at) + 1
            steps.append(SpecStep(name=token.text, sql=self.block("step"), line=line))
        teardown = self.block("teardown") if self.keyword("teardown") else None
        return SpecSession(name=name, setup=setup, steps=tuple(steps), teardown=teardown)

    def permutation(self, owners: dict[str, int]) -> tuple[PermutationStep, ...]:
        steps: list[PermutationStep] = []
        while not steps or self.token.kind in ("name", "word"):
            if steps and self.token.kind == "word" and self.token.text in _KEYWORDS:
                break
            token = self.name("step")
            self.known(token, owners)
            blockers: list[Blocker] = []
            if self.token.kind == "(":
                self.take()
                blockers.append(self.blocker(token.text, owners))
                while self.token.kind == ",":
                    self.take()
                    blockers.append(self.blocker(token.text, owners))
                if self.token.kind != ")":
                    raise self.unexpected("',' or ')'")
                self.take()
            steps.append(PermutationStep(step=token.text, blockers=tuple(blockers)))
        return tuple(steps)

    def blocker(self, step: str, owners: dict[str, int]) -> Blocker:
        if self.token.kind == "*":
            self.take()
            return Blocker(kind=Kind.ONCE)
        token = self.name("step, or *")
        self.known(token, owners)
        if owners[token.text] == owners[step]:
            raise self.problem(token.at, f"step '{step}' cannot wait for '{token.text}', which is of its own session")
        if not self.keyword("notices"):
            return Blocker(kind=Kind.STEP, step=token.text)
        if self.token.kind != "number":
            raise self.unexpected("how many notices")
        return Blocker(kind=Kind.NOTICES, step=token.text, notices=int(self.take().text))

    def known(self, token: _Token, owners: dict[str, int]) -> None:
        if token.text not in owners:
            raise self.problem(token.at, f"there is no step '{token.text}'{suggest(token.text, owners)}")
