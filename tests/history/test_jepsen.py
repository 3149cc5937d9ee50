"""EDN is read as Clojure writes it, and Jepsen's unique-ids and monotonic histories say what Jepsen's checkers say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histories import Op, Row, history
from racebench.analysis.offline import CheckResult, check_file, export
from racebench.core.errors import UsageProblem
from racebench.history import archive
from racebench.history.edn import EdnProblem, Keyword, values
from racebench.history.recorded import About, Recorded


def read(text: str) -> list[Any]:
    return [value for _, value in values(text.splitlines(keepends=True))]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil true false", [None, True, False]),
        ("1 -2 +3 4N 1.5 -2e3 3.5M", [1, -2, 3, 4, 1.5, -2000.0, 3.5]),
        ('"a" "a\\nb" "say \\"x\\" \\u00e9"', ["a", "a\nb", 'say "x" é']),
        ('"over\ntwo lines" 7', ["over\ntwo lines", 7]),
        (":a :a/b symbol", [Keyword("a"), Keyword("a/b"), "symbol"]),
        ("{:a [1 2] :b {:c nil}}", [{Keyword("a"): [1, 2], Keyword("b"): {Keyword("c"): None}}]),
        ("[{:a 1} {:a 2}]", [{Keyword("a"): 1}, {Keyword("a"): 2}]),
        ("({:a 1}\n ; {:a 9}\n {:a 2})", [{Keyword("a"): 1}, {Keyword("a"): 2}]),
        ("#{1 2}", [[1, 2]]),
        ("[#_ 1 2 #_ {:a [3]} 4 #_ #_ 5 6 7]", [2, 4, 7]),
        ('#jepsen.history.Op{:index 0} #inst "2026-01-01"', [{Keyword("index"): 0}, "2026-01-01"]),
        ("{:f :nemesis, :v #{\\a \\tab}}", [{Keyword("f"): Keyword("nemesis"), Keyword("v"): ["\\a", "\\tab"]}]),
        ("{[1 2] {:a 1}}", [{(1, 2): {Keyword("a"): 1}}]),
        ("", []),
        ("[]", []),
    ],
)  # fmt: skip
def test_edn_is_read(text: str, value: list[Any]) -> None:
    assert read(text) == value


@given(st.lists(st.tuples(st.integers(), st.text(alphabet='ab "\\\n;[]{}#é'), st.sampled_from(["nil", "true"]))))
def test_whatever_is_in_a_string_stays_in_it(items: list[tuple[int, str, str]]) -> None:
    escaped = [text.replace("\\", "\\\\").replace('"', '\\"') for _, text, _ in items]
    written = "\n".join(f'{{:n {n}, :s "{s}" :w {w}}}' for (n, _, w), s in zip(items, escaped, strict=True))
    found = [(value[Keyword("n")], value[Keyword("s")]) for value in read(written)]
    assert found == [(n, text) for n, text, _ in items]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("{:a 1}\n{:a", 2, "'{' is never closed"),
        ("[1\n2", 1, "'[' is never closed"),
        ("1\n]", 2, "']' closes nothing"),
        ("{:a 1\n]", 2, "']' closes nothing"),
        ("{:a 1 :b}", 1, "a key without a value"),
        ('1\n"never', 2, "a string is never closed"),
        ("1x", 1, "'1x' is not a number"),
        ("# 1", 1, "'# 1' is not EDN"),
    ],
)
def test_what_is_no_edn_is_named_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(EdnProblem) as problem:
        read(text)
    assert (problem.value.line, what in str(problem.value)) == (line, True), str(problem.value)


def checked(folder: Path, text: str) -> CheckResult:
    path = folder / "history.edn"
    path.write_text(text)
    return check_file(path, None)


def test_a_unique_ids_history_with_one_id_twice(tmp_path: Path) -> None:
    result = checked(
        tmp_path,
        """
        {:type :invoke, :f :generate, :value nil, :process 0, :time 100, :index 0}
        {:type :invoke, :f :generate, :value nil, :process 1, :time 110, :index 1}
        {:type :ok, :f :generate, :value 17, :process 1, :time 120, :index 2}
        {:type :info, :f :start, :value nil, :process :nemesis, :time 125, :index 3}
        {:type :ok, :f :generate, :value 17, :process 0, :time 130, :index 4}
        {:type :invoke, :f :generate, :value nil, :process 0, :time 140, :index 5}
        {:type :fail, :f :generate, :value nil, :process 0, :time 150, :index 6, :error :timeout}
        {:type :invoke, :f :generate, :value nil, :process 1, :time 140, :index 7}
        {:type :info, :f :generate, :value nil, :process 1, :time 190, :index 8}
        """,
    )
    counts = ("attempts", "committed", "failed", "unknown", "rows", "duplicates")
    assert [result.counts[name] for name in counts] == [4, 2, 1, 1, 2, 1]
    assert result.counts["lost"] is result.counts["gaps"] is None
    assert result.verdict == "INVALID"
    assert "worker 0 and worker 1 both wrote version 17" in result.witnesses[0].explanation


def test_ids_that_are_texts_are_compared_as_texts(tmp_path: Path) -> None:
    pair = '{{:type :invoke, :f :generate, :process {0}}}{{:type :ok, :f :generate, :process {0}, :value "{1}"}}'
    result = checked(tmp_path, "[" + "\n".join(pair.format(n, text) for n, text in enumerate(["b", "a", "b"])) + "]")
    assert (result.counts["rows"], result.counts["duplicates"]) == (3, 1)
    assert result.witnesses[0].rows[0]["version"] == "b"


MONOTONIC = """
{{:type :invoke, :f :add, :value 0, :process 0, :time 0}}
{{:type :ok, :f :add, :value {{:val 1 :sts 1000N :node 1 :tb 0}}, :process 0, :time 10}}
{{:type :invoke, :f :add, :value 1, :process 1, :time 20}}
{{:type :ok, :f :add, :value {{:val {second} :sts 2000N :node 1 :tb 0}}, :process 1, :time 30}}
{{:type :invoke, :f :read, :value nil, :process 0, :time 40}}
{{:type :ok, :f :read, :value [{{:val 1 :sts 1000N}} {last}], :process 0, :time 50}}
"""


@pytest.mark.parametrize(
    ("second", "last", "found"),
    [
        (2, "{:val 2 :sts 2000N}", {}),
        (0, "{:val 0 :sts 2000N}", {"inversions": 1}),
        (2, "", {"lost": 1}),
        (1, "{:val 1 :sts 2000N}", {"duplicates": 1}),
        (3, "{:val 3 :sts 2000N}", {"gaps": 1}),
    ],
)
def test_a_monotonic_history_is_checked_against_its_last_read(
    tmp_path: Path, second: int, last: str, found: dict[str, int]
) -> None:
    result = checked(tmp_path, MONOTONIC.format(second=second, last=last))
    kinds = ("duplicates", "lost", "unexpected", "gaps", "inversions")
    assert {kind: result.counts[kind] for kind in kinds if result.counts[kind]} == found
    assert (result.verdict == "INVALID") == bool(found.keys() - {"gaps"})
    assert result.about.note == "the rows are those of the last :read"


def test_an_add_that_failed_and_is_read_all_the_same_is_unexpected(tmp_path: Path) -> None:
    result = checked(
        tmp_path,
        """[{:type :invoke, :f :add, :value 5, :process 0} {:type :fail, :f :add, :value 5, :process 0}
            {:type :invoke, :f :read, :process 1} {:type :ok, :f :read, :value [5], :process 1}]""",
    )
    assert result.counts["unexpected"] == 1


def test_increments_of_keys_are_numbers_of_tenants(tmp_path: Path) -> None:
    pair = "{{:type :invoke, :f :inc, :value {1}, :process {0}}}{{:type :ok, :f :inc, :value {{{1} {2}}} :process {0}}}"
    given_ = [(0, 8, 1), (1, 8, 1), (2, 9, 1)]
    result = checked(tmp_path, "".join(pair.format(*each) for each in given_))
    assert result.counts["duplicates"] == 1
    assert result.witnesses[0].rows[0]["tenant"] == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{:type :ok, :f :generate, :process 0}", ":1: process 0 ends a :generate that it never began"),
        ("{:type :start, :f :generate, :process 0}", ":1: :type is :invoke, :ok, :fail or :info, not :start"),
        ("\n17", ":2: an event is a map"),
        ("{:type :invoke, :f :txn, :process 0}{:type :ok, :f :txn, :process 0}", "operations (there are :txn)"),
        ("{:type :invoke, :f :generate, :process 0}\n" * 2, ":2: process 0 begins an operation while"),
        ("{:type :invoke, :f :generate, :process 0, :time 1.5}", ":1: :time is a whole number of nanoseconds, not 1.5"),
        ("{:type :invoke", ":1: '{' is never closed"),
    ],
)
def test_a_history_that_is_none_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageProblem) as problem:
        checked(tmp_path, text)
    assert message in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("tenant", [1, 2])
def test_what_is_exported_says_the_same_when_read_again(tmp_path: Path, tenant: int) -> None:
    session = 1 << 32
    ops = [Op(session, 0, 10), Op(2 * session, 5, 15), Op(2 * session + 1, 20, 30), Op(session + 1, 40, 50)]
    rows = [Row(1, 3, session), Row(2, 3, 2 * session), Row(3, 1, 2 * session + 1), Row(4, 1, session + 1, tenant)]
    path = tmp_path / "h.npz"
    about = About(scenario="s", strategy="t", forbidden=("duplicates",))
    archive.write(path, Recorded(history=history(ops, rows, bits=32), about=about))
    export(path, "edn", tmp_path / "h.edn")
    one, again = check_file(path, None), check_file(tmp_path / "h.edn", None)
    for kind in ("attempts", "committed", "duplicates", "inversions"):
        assert one.counts[kind] == again.counts[kind], kind
    lines = (tmp_path / "h.edn").read_text().splitlines()
    assert lines[0] == "{:type :invoke, :f :generate, :process 1, :value nil, :time 0, :index 0}"
    assert len(lines) == 8
