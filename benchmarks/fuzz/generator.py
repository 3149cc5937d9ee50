"""Draws programs: the same seed and index give the same program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from benchmarks.fuzz import features
from benchmarks.fuzz.features import FEATURES
from benchmarks.fuzz.program import OUTSIDE, Batch, Branch, Code, Many, Program, Savepoint, Sql, Step, Unit, schedules

_LEVELS = ("", "", "", "", "READ COMMITTED", "REPEATABLE READ", "REPEATABLE READ", "SERIALIZABLE", "SERIALIZABLE")
#: The tries of a session that is SERIALIZABLE: it must come to its end.
_TRIES = 8
#: The most schedules that a program may have if BEGIN is no step of its own and none waits.
MOST_SCHEDULES = 90

#: The reads of tables, with every number.
_PLAIN = frozenset(
    text.replace("{i}", str(row)).replace("{c}", str(number))
    for text in features.PLAIN
    for row in (1, 2)
    for number in (1, 2, 3, 4)
)


def generate(seed: int, index: int) -> Program:
    """The program of a seed with an index."""
    random = Random(f"racebench {seed} {index}")
    chosen = set(random.sample(list(FEATURES), random.randint(0, 3)))
    for name in list(chosen):
        chosen.update(FEATURES[name].needs)
    setup = list(features.TABLES)
    for name in FEATURES:  # in their order: a trigger may use a function
        if name not in chosen:
            continue
        if name == "function":
            setup += [features.function(random, "inner_function"), features.function(random, "f")]
        elif name == "trigger":
            setup += features.trigger(random, chosen)
        else:
            setup += random.choice(FEATURES[name].setup)
    sessions = 2 if random.random() < 0.85 else 3
    script = random.random() < 0.5
    alike = random.random() < (0.4 if script else 0.3)
    invariants = tuple(random.sample(features.INVARIANTS, 4))
    while True:
        program = Program(
            name=f"{seed}:{index}",
            script=script,
            setup=tuple(setup),
            codes=_codes(random, chosen, script=script, number=1 if alike else sessions, sessions=sessions),
            sessions=tuple(0 if alike else place for place in range(sessions)),
            invariants=invariants,
        )
        if schedules(program, joined=True) <= MOST_SCHEDULES:
            return program


def serializable(program: Program) -> Program:
    """The program with each session as one SERIALIZABLE transaction, which is tried again when it is refused."""
    codes = tuple(
        replace(
            code,
            units=(Unit(steps=tuple(step for unit in code.units for step in unit.steps), level="SERIALIZABLE"),),
            tries=_TRIES,
            unlock=False,
        )
        for code in program.codes
    )
    return replace(program, codes=codes)


def _codes(random: Random, chosen: set[str], *, script: bool, number: int, sessions: int) -> tuple[Code, ...]:
    tries = 3 if random.random() < 0.15 else 1
    codes = []
    pool = _pool(random, chosen) if random.random() < 0.8 else []
    for _ in range(number):
        implicit = not script and random.random() < 0.5
        statements = 1 if sessions > 2 else random.choice((2, 3, 3)) if implicit else random.choice((1, 2, 2, 2))
        units: list[Unit] = []
        draw = _Draw(random, chosen, pool, script=script)
        while statements > 0:
            transaction = implicit or random.random() < 0.8
            count = random.randint(1, statements) if random.random() < 0.2 else statements
            level = random.choice(_LEVELS) if transaction else ""
            steps = draw.steps(count, transaction=transaction)
            units.append(Unit(steps=steps, transaction=transaction, level=level, commit=random.random() < 0.9))
            statements -= count
        unlock = not script and not implicit and random.random() < 0.1
        if unlock:
            lock = random.choice(("pg_advisory_lock({k})", "pg_try_advisory_lock({k})", "pg_advisory_lock_shared({k})"))
            units.insert(0, Unit(steps=(draw.sql(f"SELECT 1 FROM {lock}"),), transaction=False))
        codes.append(Code(units=tuple(units), tries=tries, implicit=implicit, unlock=unlock))
    return tuple(codes)


def _pool(random: Random, chosen: set[str]) -> list[str]:
    """A few statements that the sessions of a program share, so that they meet: a read, writes, one of a feature."""
    special = [text for name in sorted(chosen) for text in FEATURES[name].statements]
    write = random.choice(features.WRITES)
    reads = features.PLAIN if random.random() < 0.7 else features.LOCKING
    texts = [random.choice(reads), random.choice(features.WRITES), random.choice(special or features.COMMANDS)]
    # The same statement for each of two rows or locks: sessions may reach them in opposite orders.
    both = [write.replace("{i}", row).replace("{k}", row) for row in ("1", "2")]
    return [_filled(random, text) for text in (*texts, *both)]


def _filled(random: Random, text: str) -> str:
    """A statement with its numbers drawn, mostly the same row, number and lock: that is where sessions meet."""
    for name, numbers in (("{i}", (1, 1, 1, 2)), ("{c}", (1, 2, 3, 3, 4)), ("{k}", (1, 1, 2))):
        text = text.replace(name, str(random.choice(numbers)))
    return text


class _Draw:
    """Draws the steps of a session, some from a pool; remembers which variable is set."""

    def __init__(self, random: Random, chosen: set[str], pool: Sequence[str], *, script: bool) -> None:
        self._random, self._pool, self._script = random, pool, script
        self._special = [text for name in sorted(chosen) for text in FEATURES[name].statements]
        self._saved = False

    def steps(self, count: int, *, transaction: bool) -> tuple[Step, ...]:
        """Steps that send so many statements."""
        steps: list[Step] = []
        while count > 0:
            kind = self._random.random()
            if transaction and kind < 0.12:
                inner = self.steps(1, transaction=transaction)
                undo = self._random.random() < 0.5
                steps.append(Savepoint(steps=inner, undo=undo, guard=not self._script and self._random.random() < 0.5))
                self._saved = self._saved and not undo
            elif self._saved and kind < 0.22:
                then = self.steps(1, transaction=transaction)
                otherwise = self.steps(1, transaction=transaction) if self._random.random() < 0.4 else ()
                threshold = self._random.randint(0, 3)
                steps.append(Branch(variable="x", threshold=threshold, then=then, otherwise=otherwise))
            elif not self._script and kind < 0.26 and count > 1:
                steps.append(Batch(texts=tuple(self.sql(self._random.choice(features.WRITES)).text for _ in range(2))))
                count -= 1
            elif not self._script and kind < 0.31 and count > 1:
                ids = tuple(self._random.sample((1, 2), 2))
                steps.append(Many(text="UPDATE a SET n = n + 1 WHERE id = %s", values=ids))
                count -= 1
            else:
                steps.append(self._statement(transaction=transaction))
            count -= 1
        return tuple(steps)

    def _statement(self, *, transaction: bool) -> Sql:
        kind = self._random.random()
        texts: Sequence[str]
        if self._pool and self._random.random() < 0.75:
            texts = self._pool
        elif self._saved and self._random.random() < 0.25:
            texts = [text for text in features.WRITES if "{x}" in text]
        elif self._special and kind < 0.45:
            texts = self._special
        elif kind < 0.6:
            texts = features.PLAIN
        elif kind < 0.68:
            texts = features.LOCKING
        elif kind < 0.92:
            texts = features.WRITES
        else:
            texts = features.COMMANDS
        texts = [text for text in texts if transaction or text.split()[0] in OUTSIDE]
        return self.sql(self._random.choice(texts or features.WRITES[:1]))

    def sql(self, text: str) -> Sql:
        """A statement, with its numbers drawn; it saves its value if it is a query."""
        text = _filled(self._random, text)
        plain = text in _PLAIN
        if not self._saved:
            text = text.replace("{x}", str(self._random.randint(0, 3)))
        save = "x" if text.startswith("SELECT") else ""
        if save and " FROM pg_" not in text:
            self._saved = True
        else:
            save = ""
        if save:
            text = _named(text)
        return Sql(text=text, save=save, plain=plain)


def _named(text: str) -> str:
    """A query with its single column called x."""
    head, separator, rest = text.removeprefix("SELECT ").partition(" FROM ")
    if head.count("(") != head.count(")"):
        head, separator, rest = text.removeprefix("SELECT "), "", ""
    return f"SELECT {head} AS x{separator}{rest}"
