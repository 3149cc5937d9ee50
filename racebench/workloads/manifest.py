"""A scenario's folder read into the model: its scenario.toml and the files that it names.

Owns the file format (docs/scenarios.md) and its error messages, each with file and line. The SQL is read by the script
parser and the server.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from racebench.core import injection
from racebench.core.anomalies import ANOMALIES, Subject, forbidden_by_default
from racebench.core.errors import ScenarioProblem, UsageProblem, suggest
from racebench.core.injection import Fault
from racebench.core.model import Consumer, NumberedRows, Numbering, Retry, Scenario, Script, SqlFile, Strategy
from racebench.core.plain_text import shown
from racebench.core.target import Pooling
from racebench.workloads.text_file import read_text

MANIFEST = "scenario.toml"
_LONGEST_SETTLING_MS = 3_600_000
ISOLATION_LEVELS = ("read committed", "repeatable read", "serializable")

_SCENARIO_KEYS = {
    *("title", "summary", "schema", "forbid", "advise", "rows", "invariants", "measures", "consumers", "strategies"),
    *("once", "explore", "superuser", "faults"),
}
_STRATEGY_KEYS = {
    *("summary", "script", "schema", "isolation", "retry", "numbers", "expect", "may", "source"),
    *("server", "zero", "integer", "stamped", "inside", "pooler", "text"),
}
_CONSUMER_KEYS = {
    *("summary", "script", "schema", "open", "close", "cursor", "variables", "dedupe", "scope", "settle_ms"),
    *("requires", "needs", "tolerate", "by_insertion", "misses", "misses_on_standby", "writes"),
}
_SQLSTATE = re.compile(r"[0-9A-Z]{5}")
_MISSES = ("unordered", "maybe", "never")
_NEEDS = ("", "integer", "dense")
_SCOPES = ("tenant", "table")
_ROWS_KEYS = {"table", "id", "tenant", "version", "operation"}
_RETRY_KEYS = {"sqlstates", "tries", "backoff_ms", "lost"}


def read_scenario(folder: Path, *, parsed: bool = True) -> Scenario:
    """Read a scenario folder; raises ScenarioProblem with `file:line:` for anything wrong in it.

    If not `parsed`, its scripts have no steps: to list it, their text need not be understood.
    """
    return _Manifest(folder, parsed=parsed).scenario()


class _Manifest:
    def __init__(self, folder: Path, *, parsed: bool) -> None:
        self.folder = folder
        self.parsed = parsed
        self.path = folder / MANIFEST
        self.text = read_text(self.path, f"a scenario folder has a {MANIFEST}", page="scenarios")
        try:
            self.data = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as problem:
            line = re.search(r"line (\d+)", str(problem))
            at = int(line[1]) if line else len(self.text.splitlines())
            raise ScenarioProblem(f"{self.path}:{at}: {problem}") from None
        except (RecursionError, ValueError):  # ValueError: an integer of more digits than the interpreter converts
            raise ScenarioProblem(f"{self.path}:1: a value is nested too deeply, or has too many digits") from None

    def problem(self, table: str, key: str | None, message: str) -> ScenarioProblem:
        return ScenarioProblem(f"{self.path}:{_line_of(self.text, table, key)}: {message}")

    def scenario(self) -> Scenario:
        self.check_keys("", self.data, _SCENARIO_KEYS)
        rows = self.rows()
        strategies = {name: self.strategy(name) for name in self.names("strategies", required=True)}
        return Scenario(
            name=self.folder.resolve().name,
            title=self.string("", self.data, "title", self.folder.resolve().name),
            summary=self.string("", self.data, "summary"),
            folder=self.folder,
            schema=self.sql_files("", self.data, "schema", required=True),
            rows=rows,
            invariants=self.texts("invariants", self.data.get("invariants", {})),
            measures=self.texts("measures", self.data.get("measures", {})),
            lines={
                f"{table}.{key}": _line_of(self.text, table, key)
                for table in ("invariants", "measures")
                for key in self.data.get(table, {})
            },
            once=self.flag("", self.data, "once", default=False),
            explore=self.exploring(),
            superuser=self.flag("", self.data, "superuser", default=False),
            forbid=self.kinds("", self.data, "forbid", forbidden_by_default(Subject.SCENARIO)),
            advise=self.advise(strategies),
            strategies=strategies,
            consumers={name: self.consumer(name) for name in self.names("consumers", required=False)},
            faults=self.faults(),
        )

    def faults(self) -> tuple[Fault, ...]:
        """The faults that a load injects."""
        value = self.data.get("faults", [])
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.problem("", "faults", f'faults is a list such as ["cut:2%"], not {shown(value)}')
        try:
            return injection.parse_all(value)
        except UsageProblem as problem:
            raise self.problem("", "faults", str(problem)) from None

    def exploring(self) -> Script | None:
        """The script that runs before each explored schedule."""
        files = self.sql_files("", self.data, "explore")
        if not self.parsed:
            return None
        from racebench.workloads import scripts

        return scripts.parse(files[0].text, files[0].path) if files else None

    def advise(self, strategies: Mapping[str, Strategy]) -> str | None:
        """The strategy to recommend: the one named, else the first that is known to be right."""
        right = (name for name, strategy in strategies.items() if strategy.right)
        name = self.string("", self.data, "advise", "") or next(right, None)
        if name is not None and name not in strategies:
            raise self.problem("", "advise", f"advise names '{name}'{suggest(name, strategies)}")
        return name

    def rows(self) -> NumberedRows | None:
        if "rows" not in self.data:
            if consumers := self.names("consumers", required=False):
                first = consumers[0]
                raise self.problem(f"consumers.{first}", None, "consumers need [rows]: name the table of numbered rows")
            if not self.data.get("invariants") and not self.data.get("measures"):
                raise self.problem("", None, "nothing to check: give [rows], or [invariants] with a query")
            return None
        table = self.table("rows", self.data["rows"])
        self.check_keys("rows", table, _ROWS_KEYS)
        if "table" not in table:
            raise self.problem("rows", None, '[rows] needs table = "…"')
        return NumberedRows(**{key: self.string("rows", table, key) for key in table})

    def strategy(self, name: str) -> Strategy:
        where = f"strategies.{name}"
        table = self.table(where, self.data["strategies"][name])
        self.check_keys(where, table, _STRATEGY_KEYS)
        isolation = self.choice(where, table, "isolation", ("", *ISOLATION_LEVELS))
        zero = table.get("zero", "0")
        if not isinstance(zero, str | int | float) or isinstance(zero, bool) or "\0" in str(zero):
            raise self.problem(where, "zero", f"zero is a text or a number, not {shown(zero)}")
        return Strategy(
            name=name,
            summary=self.string(where, table, "summary"),
            script=self.script(where, table),
            schema=self.sql_files(where, table, "schema"),
            isolation=isolation or None,
            retry=self.retry(where, table),
            numbering=Numbering(self.choice(where, table, "numbers", tuple(Numbering))),
            expect=frozenset(self.kinds(where, table, "expect", ())),
            may=frozenset(self.kinds(where, table, "may", ())),
            source=self.string(where, table, "source", ""),
            server=self.whole(where, table, "server", 0),
            zero=str(zero),
            integer=self.flag(where, table, "integer", default=True),
            stamped=self.flag(where, table, "stamped", default=False),
            inside=self.flag(where, table, "inside", default=False),
            pooler=self.behind_a_pooler(where, table),
            text=self.flag(where, table, "text", default=False),
        )

    def behind_a_pooler(self, where: str, table: Mapping[str, Any]) -> dict[Pooling, frozenset[str]]:
        """The anomalies to expect by the mode of a pooler."""
        modes = self.table(f"{where}.pooler", table.get("pooler", {}))
        for mode in modes:
            if mode not in tuple(Pooling):
                raise self.problem(
                    where, "pooler", f"pooler has no mode {shown(mode)}{suggest(str(mode), tuple(Pooling))}"
                )
        return {
            Pooling(mode): frozenset(self.kinds(where, {"pooler": kinds}, "pooler", ()))
            for mode, kinds in modes.items()
        }

    def consumer(self, name: str) -> Consumer:
        where = f"consumers.{name}"
        table = self.table(where, self.data["consumers"][name])
        self.check_keys(where, table, _CONSUMER_KEYS)
        parsed = self.script(where, table)
        if self.parsed and len(parsed.steps) != 1:
            raise ScenarioProblem(f"{parsed.path}:1: a consumer's script is one query, not {len(parsed.steps)} steps")
        consumer = Consumer(
            name=name,
            summary=self.string(where, table, "summary"),
            script=parsed,
            schema=self.sql_files(where, table, "schema"),
            opening=self.sql_files(where, table, "open"),
            closing=self.sql_files(where, table, "close"),
            cursor=self.texts(f"{where}.cursor", table.get("cursor", {})),
            variables=self.texts(f"{where}.variables", table.get("variables", {})),
            dedupe=self.flag(where, table, "dedupe", default=False),
            per_tenant=self.choice(where, table, "scope", _SCOPES) == "tenant",
            settle_ms=self.whole(where, table, "settle_ms", 0, most=_LONGEST_SETTLING_MS),
            requires=self.texts(f"{where}.requires", table.get("requires", {})),
            needs=self.choice(where, table, "needs", _NEEDS),
            tolerate=self.sqlstates(where, table, "tolerate"),
            by_insertion=self.flag(where, table, "by_insertion", default=False),
            misses=self.choice(where, table, "misses", _MISSES),
            misses_on_standby=self.choice(where, table, "misses_on_standby", ("", *_MISSES)),
            writes=self.flag(where, table, "writes", default=False),
        )
        known = {"tenant", "batch", *consumer.cursor, *consumer.variables}
        for variable in parsed.statements[0].parameters if self.parsed else ():
            if variable not in known:
                raise ScenarioProblem(
                    f"{parsed.path}:{parsed.statements[0].line}: variable :{variable} is not set"
                    f'{suggest(variable, known)}; a cursor\'s names are given by cursor = {{ version = "zero" }}'
                )
        return consumer

    def retry(self, where: str, table: Mapping[str, Any]) -> Retry | None:
        value = table.get("retry")
        if value is None:
            return None
        rule = value if isinstance(value, dict) else {"sqlstates": value}
        if unknown := set(rule) - _RETRY_KEYS:
            raise self.problem(where, "retry", f"retry has no '{min(unknown)}'{suggest(min(unknown), _RETRY_KEYS)}")
        lost = rule.get("lost", False)
        if not isinstance(lost, bool):
            raise self.problem(where, "retry", f"retry's lost is true or false, not {shown(lost)}")
        codes = self.sqlstates(where, {"retry": rule.get("sqlstates", [] if lost else "")}, "retry")
        tries, backoff = rule.get("tries", 100), rule.get("backoff_ms", 1.0)
        if not isinstance(tries, int) or isinstance(tries, bool) or not 1 < tries <= 65_535:
            raise self.problem(where, "retry", f"retry's tries is a number from 2 to 65535, not {shown(tries)}")
        if not isinstance(backoff, int | float) or isinstance(backoff, bool) or not 0 <= backoff <= 10_000:
            raise self.problem(where, "retry", f"retry's backoff_ms is a number from 0 to 10000, not {shown(backoff)}")
        return Retry(sqlstates=codes, tries=tries, backoff_ms=float(backoff), lost=lost)

    def script(self, where: str, table: Mapping[str, Any]) -> Any:
        path = self.file(where, "script", self.string(where, table, "script"))
        text = read_text(path, "name an existing file")
        if not self.parsed:
            return Script(path=path, text=text, steps=())
        from racebench.workloads import scripts  # to list a scenario it is not needed

        return scripts.parse(text, path)

    def sql_files(
        self, where: str, table: Mapping[str, Any], key: str, *, required: bool = False
    ) -> tuple[SqlFile, ...]:
        value = table.get(key, None if required else [])
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.problem(where, key, f"{key} is a file name or a list of them, not {shown(value)}")
        paths = [self.file(where, key, name) for name in names]
        return tuple(SqlFile(path=path, text=read_text(path, "name an existing file")) for path in paths)

    def file(self, where: str, key: str, name: str) -> Path:
        path = self.folder / name
        if "\0" in name or not path.is_file():
            raise self.problem(where, key, f"{key} names '{name}', which is not a file in {self.folder}")
        return path

    def names(self, key: str, *, required: bool) -> list[str]:
        table = self.table(key, self.data.get(key, {}))
        if required and not table:
            raise self.problem("", None, f"a scenario needs at least one [{key}.NAME]")
        if odd := [name for name in table if "\0" in name or not name.strip()]:
            raise self.problem("", None, f"{shown(odd[0])} is no name in [{key}.NAME]: give it letters and digits")
        return list(table)

    def kinds(self, where: str, table: Mapping[str, Any], key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = table.get(key, list(default))
        if not isinstance(value, list):
            raise self.problem(where, key, f"{key} is a list of anomalies, not {shown(value)}")
        for kind in value:
            if not isinstance(kind, str) or kind not in ANOMALIES:
                raise self.problem(where, key, f"anomaly {shown(kind)} is unknown{suggest(str(kind), ANOMALIES)}")
        return tuple(value)

    def table(self, where: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.problem(
                where.rpartition(".")[0], where.rpartition(".")[2], f"[{where}] is a table, not {shown(value)}"
            )
        return value

    def string(self, where: str, table: Mapping[str, Any], key: str, default: str | None = None) -> str:
        value = table.get(key, default)
        if value is None:
            raise self.problem(where, None, f'{f"[{where}]" if where else "the scenario"} needs {key} = "…"')
        if not isinstance(value, str):
            raise self.problem(where, key, f"{key} is a text, not {shown(value)}")
        if "\0" in value:
            raise self.problem(where, key, f"{key} has a NUL character; remove it")
        return value

    def texts(self, where: str, value: object) -> dict[str, str]:
        """A table of texts and numbers, as texts."""
        table = self.table(where, value)
        for key, text in table.items():
            if not isinstance(text, str | int | float) or isinstance(text, bool) or "\0" in str(text):
                raise self.problem(where, key, f"{key} is a text or a number, not {shown(text)}")
        return {key: str(text) for key, text in table.items()}

    def sqlstates(self, where: str, table: Mapping[str, Any], key: str) -> frozenset[str]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(v, str) and _SQLSTATE.fullmatch(v) for v in value):
            raise self.problem(
                where, key, f'{key} takes SQLSTATEs of five characters, for example ["40001"], not {shown(value)}'
            )
        return frozenset(value)

    def flag(self, where: str, table: Mapping[str, Any], key: str, *, default: bool) -> bool:
        value = table.get(key, default)
        if not isinstance(value, bool):
            raise self.problem(where, key, f"{key} is true or false, not {shown(value)}")
        return value

    def whole(self, where: str, table: Mapping[str, Any], key: str, default: int, *, most: int = 65_535) -> int:
        value = table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.problem(where, key, f"{key} is a whole number from 0 to {most}, not {shown(value)}")
        return value

    def choice(self, where: str, table: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
        """One of some known words; the first is the default."""
        value = self.string(where, table, key, known[0])
        if value not in known:
            raise self.problem(where, key, f"{key} '{value}' is unknown{suggest(value, [k for k in known if k])}")
        return value

    def check_keys(self, where: str, table: Mapping[str, Any], known: set[str]) -> None:
        for key in table:
            if key not in known:
                raise self.problem(where, key, f"unknown key {shown(key)}{suggest(key, known)}")


def _line_of(text: str, table: str, key: str | None) -> int:
    """Return the line of a key, or of its table's header; tomllib keeps no positions."""
    current, header = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"\s*\[([^\[\]]+)\]", line):
            current = ".".join(part.strip().strip("\"'") for part in match[1].split("."))
            header = number if current == table else header
        elif key is not None and current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
            return number
        if match and key is not None and current == (f"{table}.{key}" if table else key):
            return number
    return header
