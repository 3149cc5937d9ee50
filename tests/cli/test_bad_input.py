"""Bad input ends in one clear line: documents, histories, scenarios, scripts, settings and DSNs, spoiled at random.

Each family takes a valid input, spoils it in one place, and gives it to the commands that read it. The cases are the
same in every run. Those that were found by other means are listed by name at the end.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import assert_refused_or_fine, files, run

from judged import REFERENCE, TWINS
from racebench.history import archive
from racebench.history.recorded import About, Recorded
from racebench.reports import formats

READ = (0, 2)
#: A valid subject goes on to the embedded server, which a test without the mark `server` does not have.
STARTED = (0, 2, 6)

#: Values of a wrong type, size or form, as they are written in JSON.
VALUES = (
    *("null", "true", "-1", "0", "1.5", "1e308", "1e400", "-1e999", "NaN", "Infinity", "9" * 30, "9" * 5000),
    *('""', '"x"', '"\\u001b[31m::error::\\u202e"', '"\\ud800"', '"\\u0000"', f'"{"a" * 5000}"', '"-- \\n::x"'),
    *("[]", "{}", "[[]]", '[{"a": 1}]', '{"\\ud800": 1}', '{"p50": "x"}', '["p"]', "[" * 3000 + "]" * 3000),
)


def corpus(cases: int) -> settings:
    """The same cases in every run; a busy machine is no failure."""
    return settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# Result documents


def _trimmed(name: str) -> dict[str, Any]:
    """A reference result with little in it, so that each place is hit often."""
    data: dict[str, Any] = json.loads((REFERENCE / name).read_text())
    for run_ in data.get("runs", ()):
        run_["witnesses"] = run_["witnesses"][:1]
        for interval in ("committed", "p50_us", "p99_us"):
            run_.get("timeline", {interval: []})[interval] = run_.get("timeline", {interval: []})[interval][:3]
    for key in ("runs", "explorations"):
        if key in data:
            data[key] = [*data[key][:1], *data[key][3:4]]
    return data


DOCUMENTS = {name: _trimmed(name) for name in ("run.json", "explored.json")}
PATHS = {name: list(formats.FORMATS) for name in DOCUMENTS}


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from _places(inner, (*path, key))


def _spoil(text: str, path: tuple[Any, ...], instead: str | None) -> str:
    """A document with a value replaced by some text, or without it."""
    data = json.loads(text)
    if not path:
        return instead or ""
    holder = data
    for key in path[:-1]:
        holder = holder[key]
    if instead is None:
        del holder[path[-1]]
        return json.dumps(data)
    holder[path[-1]] = "@here@"
    return json.dumps(data).replace('"@here@"', instead)


@st.composite
def spoiled_documents(draw: st.DrawFn) -> str:
    data = DOCUMENTS[draw(st.sampled_from(sorted(DOCUMENTS)))]
    text = json.dumps(data)
    how = draw(st.sampled_from(["replace"] * 8 + ["remove"] * 2 + ["add", "cut"]))
    if how == "cut":
        return text[: draw(st.integers(0, len(text) - 1))]
    path = draw(st.sampled_from(list(_places(data))))
    if how == "add":
        return _spoil(text, path, '{"stranger": 1}')
    return _spoil(text, path, None if how == "remove" else draw(st.sampled_from(VALUES)))


@corpus(350)
@given(text=spoiled_documents(), format_=st.sampled_from([*formats.FORMATS, "table", "html", "junit"]))
def test_a_spoiled_result_is_one_line(tmp_path: Path, text: str, format_: str) -> None:
    (tmp_path / "result.json").write_text(text, errors="surrogatepass")
    before = files(tmp_path)
    done = run("report", "result.json", "--format", format_, cwd=tmp_path)
    assert_refused_or_fine(done, READ)
    assert files(tmp_path) == before


@corpus(40)
@given(text=spoiled_documents())
def test_a_spoiled_baseline_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "base.json").write_text(text, errors="surrogatepass")
    done = run("compare", "-s", "naive", "--baseline", "base.json", "--no-save", cwd=tmp_path)
    assert_refused_or_fine(done, (2,))  # neither document is of `compare`


# Histories

LINES = (
    '{"type": "history", "version": 1, "scenario": "s", "strategy": "t", "numbering": "tenant", "rows": true, '
    '"forbidden": ["duplicates"]}',
    '{"type": "op", "process": 1, "tenant": 1, "start_ns": 5, "end_ns": 9, "outcome": "ok", "version": 17, "tries": 1}',
    '{"type": "op", "process": 2, "start_ns": 6, "end_ns": 8, "outcome": "fail", "version": 18, "sqlstate": "23505"}',
    '{"type": "row", "id": 40, "tenant": 1, "version": 17, "process": 1, "index": 0}',
    '{"type": "consumer", "consumer": "c", "ordered": true, "drained": true}',
    '{"type": "poll", "consumer": "c", "tenant": 1, "start_ns": 7, "end_ns": 9, "delivered": [40], "cursor": 17}',
)


@st.composite
def spoiled_lines(draw: st.DrawFn) -> str:
    lines = list(LINES)
    number = draw(st.integers(0, len(lines) - 1))
    data = json.loads(lines[number])
    path = draw(st.sampled_from(list(_places(data))))
    how = draw(st.sampled_from(["replace"] * 8 + ["remove", "cut", "twice"]))
    if how == "twice":
        lines.insert(number, lines[number])
    elif how == "cut":
        lines[number] = lines[number][: draw(st.integers(0, len(lines[number])))]
    else:
        lines[number] = _spoil(lines[number], path, None if how == "remove" else draw(st.sampled_from(VALUES)))
    return "\n".join(lines)


@corpus(200)
@given(
    text=spoiled_lines(), export=st.sampled_from([(), (), ("--export", "edn"), ("--export", "jsonl"), ("--json", "-")])
)
def test_a_spoiled_history_of_lines_is_one_line(tmp_path: Path, text: str, export: tuple[str, ...]) -> None:
    (tmp_path / "h.jsonl").write_text(text, errors="surrogatepass")
    before = files(tmp_path)
    assert_refused_or_fine(run("check", "h.jsonl", *export, cwd=tmp_path), READ)
    assert files(tmp_path) == before


EDN = (
    "{:type :invoke, :f :generate, :process 0, :value nil, :time 1, :index 0}\n"
    "{:type :ok, :f :generate, :process 0, :value 17, :time 5, :index 1}\n"
    "#jepsen.history.Op{:type :invoke, :f :add, :process 1, :value [1 2], :time 6, :index 2}\n"
    '{:type :info, :f :add, :process 1, :value {:val 3, :tb "t"}, :time 9, :index 3, :error "40001"}\n'
)
ATOMS = (
    *("nil", "true", "-1", "9" * 40, "9" * 5000, "1.5", "1e999", '"\\ud800"', '"x', ":" + "k" * 3000, "#{1 2}", "\\a"),
    *("[" * 200 + "]" * 200, "{" * 3, "]", "#_", "#tag", '"\x1b[31m"', "{[1 [2]] 3}", "{{} {}}", "\x00", "::", "##[x"),
)


@st.composite
def spoiled_edn(draw: st.DrawFn) -> str:
    tokens = list(re.finditer(r"[^\s,{}\[\]]+|[{}\[\]]", EDN))
    token = draw(st.sampled_from(tokens))
    return EDN[: token.start()] + draw(st.sampled_from(("", *ATOMS))) + EDN[token.end() :]


@corpus(120)
@given(text=spoiled_edn())
def test_a_spoiled_history_of_jepsen_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "h.edn").write_text(text)
    assert_refused_or_fine(run("check", "h.edn", cwd=tmp_path), READ)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "h.history.npz"
    archive.write(path, Recorded(history=TWINS, about=About(scenario="s", strategy="t", forbidden=("duplicates",))))
    return path


#: Arrays of a wrong type or shape, and values of which an array of the right shape is made.
ARRAYS = (
    *(np.array("x"), np.array(["x", "y"]), np.zeros(0, np.int64), np.zeros((2, 2), np.int64), np.array(5)),
    *(np.array([{"a": 1}], object), np.array([b"x"])),
)
FILLS = (np.uint64(2**64 - 1), np.int64(-(2**63)), np.int64(2**63 - 1), np.float64(1.5), np.float64("nan"))


@st.composite
def spoiled_members(draw: st.DrawFn, path: Path) -> bytes:
    """A history file with one member that is another array, is missing, or has other bytes; or cut as a whole."""
    how = draw(st.sampled_from(["array"] * 6 + ["meta"] * 6 + ["remove", "bytes", "cut", "flip"]))
    whole = path.read_bytes()
    if how == "cut":
        return whole[: draw(st.integers(0, len(whole) - 1))]
    if how == "flip":
        at = draw(st.integers(0, len(whole) - 1))
        return whole[:at] + bytes([whole[at] ^ draw(st.integers(1, 255))]) + whole[at + 1 :]
    with zipfile.ZipFile(path) as archive_:
        members = {name: archive_.read(name) for name in archive_.namelist()}
    with np.load(path) as loaded:
        arrays = {f"{name}.npy": loaded[name] for name in loaded.files}
    name = "meta.npy" if how == "meta" else draw(st.sampled_from(sorted(members)))
    copy = path.with_name("spoiled.npz")
    with zipfile.ZipFile(copy, "w") as spoiled:
        for member, data in members.items():
            if member != name:
                spoiled.writestr(member, data)
            elif how == "bytes":
                spoiled.writestr(member, draw(st.binary(max_size=80)))
            elif how == "meta":
                text = str(arrays[name])
                place = draw(st.sampled_from(list(_places(json.loads(text)))))
                value = draw(st.sampled_from([None, *VALUES]))
                changed = _spoil(text, place, value)
                with spoiled.open(member, "w") as file:
                    np.lib.format.write_array(file, np.array(changed), allow_pickle=False)
            elif how == "array":
                with spoiled.open(member, "w") as file:
                    array = draw(st.sampled_from([*ARRAYS, *(np.full(arrays[name].shape, fill) for fill in FILLS)]))
                    np.lib.format.write_array(file, array, allow_pickle=True)
    return copy.read_bytes()


@corpus(200)
@given(data=st.data())
def test_a_spoiled_history_file_is_one_line(kept: Path, tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "h.npz").write_bytes(data.draw(spoiled_members(kept).map(lambda content: content)))
    export = data.draw(st.sampled_from([(), (), ("--export", "jsonl"), ("--export", "edn")]))
    before = files(tmp_path)
    assert_refused_or_fine(run("check", "h.npz", *export, cwd=tmp_path), READ)
    assert files(tmp_path) == before


# Scenarios, scripts, settings

TOML = (
    *(
        "1",
        "-1",
        "true",
        "1.5",
        "nan",
        "1e400",
        "9" * 30,
        "9" * 5000,
        "2026-01-01",
        '""',
        '"x"',
        '"\\u0000"',
        "[]",
        "{}",
    ),
    *('"\\u001b[31m\\n::error::\\u202e"', "[[]]", "[1]", '"\\u0000"', "{ a = 1 }", '"""', "'", "[" * 2000 + "]" * 2000),
    *("[[1], {}]", f'"{"a" * 3000}"', '["\\u0000"]', '"../../etc/passwd"', '"."', "[{}]", '{ "\\u0000" = 1 }'),
)
SCENARIO = """\
title = "T"
summary = "s"
schema = "schema.sql"
forbid = ["duplicates"]
advise = "naive"
once = false
explore = "naive.sql"
[rows]
table = "events"
version = "version"
[invariants]
one = "SELECT 1 WHERE false"
[measures]
two = "SELECT 2"
[strategies.naive]
summary = "n"
script = "naive.sql"
schema = ["schema.sql"]
isolation = "serializable"
retry = { sqlstates = ["40001"], tries = 5, backoff_ms = 1 }
numbers = "tenant"
expect = ["missed"]
may = []
source = "x"
server = 14
zero = "0"
integer = true
[consumers.cursor]
summary = "c"
script = "poll.sql"
open = "schema.sql"
cursor = { version = "zero" }
variables = { a = 1 }
dedupe = true
scope = "tenant"
settle_ms = 5
requires = { wal_level = "logical" }
needs = "integer"
tolerate = ["42703"]
misses = "never"
"""
NAIVE = """\
\\set x random(1, 5) * (2 + 3)
\\sleep 10 ms
BEGIN;
SELECT coalesce(max(version), 0) + 1 AS version FROM events WHERE tenant = :tenant \\gset
\\if :version > 3 and not false
INSERT INTO events (tenant, version, payload) VALUES (:tenant, :version, 'a''b');
\\else
SELECT $$x$$ /* c */ -- d
;
\\endif
COMMIT;
"""


def _scenario(folder: Path, manifest: str = SCENARIO, script: str = NAIVE) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "scenario.toml").write_text(manifest)
    (folder / "schema.sql").write_text("CREATE TABLE events (id bigserial);")
    (folder / "naive.sql").write_text(script)
    (folder / "poll.sql").write_text("SELECT id, version FROM events WHERE version > :version")


@st.composite
def spoiled_toml(draw: st.DrawFn, text: str) -> str:
    lines = text.splitlines()
    number = draw(st.integers(0, len(lines) - 1))
    key, equals, _ = lines[number].partition(" = ")
    how = draw(st.sampled_from(["value"] * 8 + ["remove", "twice", "table", "cut", "key"]))
    if how == "value":
        lines[number] = f"{key} = {draw(st.sampled_from(TOML))}" if equals else lines[number].replace("]", ".x]")
    elif how == "remove":
        del lines[number]
    elif how == "twice":
        lines.insert(number, lines[number])
    elif how == "table":
        lines[number] = draw(st.sampled_from(["[x]", "[[strategies]]", '[strategies."\\u0000"]', "[strategies]"]))
    elif how == "key":
        name = draw(st.sampled_from(["stranger", '"\\u001b[31m"', "a.b", ""]))
        lines[number] = f"{name} = 1"
    joined = "\n".join(lines)
    return joined[: draw(st.integers(0, len(joined)))] if how == "cut" else joined


@corpus(200)
@given(manifest=spoiled_toml(SCENARIO), command=st.sampled_from(["list", "show", "run"]))
def test_a_spoiled_scenario_is_one_line(tmp_path: Path, manifest: str, command: str) -> None:
    _scenario(tmp_path / "s", manifest)
    arguments = {
        "list": ("list", "./s"),
        "show": ("show", "naive", "--scenario", "./s"),
        "run": ("run", "./s", "--no-save", "-n", "8"),
    }[command]
    assert_refused_or_fine(run(*arguments, cwd=tmp_path), STARTED if command == "run" else READ)


SQL = (
    *(
        "\\",
        "'",
        '"',
        "$$",
        "$a$",
        "/*",
        "(",
        ")",
        ";",
        ":x",
        "::",
        "--",
        "\\gset",
        "\\if",
        "\\endif",
        "\\sleep 9e99 s",
    ),
    *(
        "\\sleep " + "9" * 400,
        "\\sleep " + "9" * 5000,
        "\\set y " + "(" * 500 + "1" + ")" * 500,
        "\\set y 1" + "+1" * 5000,
    ),
    *("\\set y " + "-" * 3000 + "1", "\\set z " + "9" * 5000, "\\set w nothing(1)", "\\set", "\\x1b", "\x1b[31m", "\0"),
    *("\\startpipeline", "COPY t FROM STDIN;", "\\set v " + "not " * 900 + "true", "\\bogus" + "a" * 3000, "é\u202e"),
)


@st.composite
def spoiled_scripts(draw: st.DrawFn) -> str:
    at = draw(st.integers(0, len(NAIVE)))
    return NAIVE[:at] + draw(st.sampled_from(["", "\n"])) + draw(st.sampled_from(SQL)) + NAIVE[at:]


@corpus(150)
@given(script=spoiled_scripts())
def test_a_spoiled_script_is_one_line(tmp_path: Path, script: str) -> None:
    (tmp_path / "mine.sql").write_text(script)
    assert_refused_or_fine(run("run", "./mine.sql", "--no-save", "-n", "8", cwd=tmp_path), (2, 6))


SETTINGS = """\
scenario = "./s"
seed = 1
[run]
workers = 16
strategy = ["naive"]
duration = 1.5
report = ["junit=x.xml"]
fail-on = "any"
history = true
long = "5:200"
[server.reset]
server = "all"
"""


@corpus(120)
@given(text=spoiled_toml(SETTINGS), project=st.booleans())
def test_a_spoiled_settings_file_is_one_line(tmp_path: Path, text: str, project: bool) -> None:
    for name in ("racebench.toml", "pyproject.toml"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / ("pyproject.toml" if project else "racebench.toml")).write_text(
        text.replace("[run]", "[tool.racebench.run]") if project else text
    )
    assert_refused_or_fine(run("config", cwd=tmp_path), READ)


@corpus(80)
@given(
    st.text(st.characters(exclude_characters="\0", codec=None), min_size=1, max_size=40).filter(
        lambda text: not text.strip().startswith("-")
    ),
    st.sampled_from(
        (
            *("run -s", "run --threshold", "run --fail-on", "run --long", "run -w", "show", "demo", "explore --seed"),
            *("list", "replay", "report", "check", "run --report", "run --call", "run --setup", "run --dsn", "config"),
            *("compare --reference", "check --export", "completion", "run --json", "report --title x", "init"),
            *("explore --consumer", "run --fault", "run --fault cut:1% --fault"),
        )
    ),
)
def test_a_wrong_argument_is_one_line(tmp_path_factory: pytest.TempPathFactory, text: str, command: str) -> None:
    folder = tmp_path_factory.mktemp("argument")
    text = text.encode(errors="surrogatepass").decode(errors="surrogateescape")  # as an argument comes
    if "--dsn" in command:
        text = f"host=/nonexistent {text}"
    done = run(*command.split(), text, *(("--no-save",) if command.startswith("run") else ()), cwd=folder)
    assert_refused_or_fine(done, (0, 2, 6))


# Cases that were found by other means, by name


def _encrypted(path: Path) -> bytes:
    """A zip whose first member says that it is encrypted: bit 0 of its flags, in both headers (APPNOTE.TXT, 4.4.4)."""
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def test_an_encrypted_history_is_one_line(kept: Path, tmp_path: Path) -> None:
    (tmp_path / "h.npz").write_bytes(_encrypted(kept))
    done = run("check", "h.npz", cwd=tmp_path)
    assert_refused_or_fine(done, (2,))
    assert "encrypted" in done.errors


@pytest.mark.parametrize(
    ("name", "content", "arguments", "said"),
    [
        ("a.json", b"\xff\xfe", ("report", "a.json"), "a.json cannot be read: not UTF-8 text"),
        ("a.json", b"", ("report", "a.json"), "a.json:1: is not JSON"),
        ("a.json", b"[" * 10**5, ("report", "a.json"), "a.json:1: is not JSON (it is nested too deeply)"),
        ("a.json", b"5", ("report", "a.json"), "it is 5, not an object"),
        ("a.json", b'{"schema_version": [1]}', ("report", "a.json"), "a.json has schema version [1]"),
        ("a.jsonl", b"[" * 10**5, ("check", "a.jsonl"), "a.jsonl:1: is not JSON (it is nested too deeply)"),
        ("a.jsonl", b"\xff", ("check", "a.jsonl"), "the file is not UTF-8 text"),
        ("a.jsonl", b"", ("check", "a.jsonl"), "a.jsonl has no operations"),
        ("a.jsonl", b'{"type": ["op"]}', ("check", "a.jsonl"), "'type' is a text, not ['op']"),
        ("a.edn", b"[" * 10**5, ("check", "a.edn"), "values are nested more than 50 deep"),
        ("a.edn", b"\xff", ("check", "a.edn"), "is not UTF-8 text"),
        ("a.npz", b"PK\x03\x04", ("check", "a.npz"), "a.npz is damaged"),
        ("a.npz", b"", ("check", "a.npz"), "a.npz is damaged"),
        ("a.sql", b"SELECT 1;\n\0", ("run", "./a.sql"), "a.sql:2: has a NUL character"),
        (
            "a.sql",
            b"\\sleep " + b"9" * 400 + b"\nSELECT 1;",
            ("run", "./a.sql"),
            "a.sql:1: \\sleep takes at most a day",
        ),
        ("a.sql", b"\\set x " + b"(" * 900 + b"1", ("run", "./a.sql"), "it is nested too deeply"),
        ("racebench.toml", b"x = " + b"[" * 10**4, ("config",), "racebench.toml: a value is nested too deeply"),
        ("racebench.toml", b"\xff", ("config",), "racebench.toml is not UTF-8 text"),
        ("racebench.toml", b"workers = " + b"9" * 5000, ("config",), "has too many digits"),
        ("racebench.toml", b'json = "a\\u0000b"', ("config",), "--json has a NUL character"),
    ],
)
def test_what_was_found_is_one_line(
    name: str, content: bytes, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    before = files(tmp_path)
    done = run(*arguments, *(("--no-save",) if "run" in arguments else ()), cwd=tmp_path)
    assert_refused_or_fine(done, (2,))
    assert said in done.errors, done.errors
    assert files(tmp_path) == before


@pytest.mark.parametrize("command", ["report", "check", "list", "show", "compare"])
def test_a_folder_in_place_of_a_file_is_one_line(command: str, tmp_path: Path) -> None:
    for name in ("a.json", "a.npz", "a.jsonl", "a.edn", "a.sql"):
        (tmp_path / name).mkdir()
        assert_refused_or_fine(run(command, f"./{name}", cwd=tmp_path), (2,))


@pytest.mark.parametrize(
    "dsn",
    [
        "host=\udcff",
        "postgresql://a\udcff@b/c",
        "host=/x password=\udcff",
        "nonsense",
        "postgresql://%ff@/x",
        "host='x",
    ],
)
def test_a_dsn_that_is_none_is_one_line_and_not_shown(dsn: str, tmp_path: Path) -> None:
    done = run("run", "-s", "naive", "--no-save", "--dsn", dsn, cwd=tmp_path)
    assert_refused_or_fine(done, (2,))
    assert dsn not in done.errors
    assert "not shown" in done.errors


def test_a_value_nested_without_end_is_shown_short(tmp_path: Path) -> None:
    _scenario(tmp_path / "s", SCENARIO.replace('numbers = "tenant"', f"numbers = {'[' * 90}{']' * 90}"))
    done = run("list", "./s", cwd=tmp_path)
    assert_refused_or_fine(done, (2,))
    assert done.errors.endswith("numbers is a text, not [[[...]]]\n")
