"""Baselines: a new anomaly anywhere, a regression only where both were measured alike, and then on the interval."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import judged
from conftest import Command, assert_one_line
from measured import LOAD, compared, rounds_of, run_of
from racebench.analysis import baselines
from racebench.analysis.baselines import BaselineResult, Measured, Standing
from racebench.analysis.comparison import Conditions
from racebench.core.errors import UsageProblem
from racebench.core.results import RunResult
from racebench.reports import threshold_lines
from racebench.reports.results import document, reading
from racebench.reports.results.document import SCHEMA_FILE, Document

SCHEMA = json.loads(SCHEMA_FILE.read_text())
STEADY = (1000.0, 1010.0, 990.0, 1005.0, 995.0)
ENVIRONMENT = {
    "racebench": "1",
    "target": "embedded",
    "server_version": "18.4",
    "server_settings": {"fsync": "on"},
    "processor": "A",
    "cpu_count": 2,
    "machine": "x86_64",
    "python": "3.11.7",
}


def measured(runs: Sequence[RunResult], frame: str = "f", digest: str = "d", **environment: Any) -> Measured:
    names = dict.fromkeys(run.strategy for run in runs)
    return Measured(
        created="2026-11-23T00:00:00Z",
        environment={**ENVIRONMENT, **environment},
        runs=runs,
        comparison=compared(runs, rounds=5, frame=frame, digests=dict.fromkeys(names, digest)),
    )


def beside(now: Measured, then: Measured, fail_slower: float | None = 0.2) -> BaselineResult:
    return baselines.beside(now, then, name="main", fail_slower=fail_slower)


def standing(result: BaselineResult, strategy: str) -> Standing:
    return next(one.standing for one in result.strategies if one.strategy == strategy)


def times(factor: float) -> list[float]:
    """STEADY times a factor, not quite alike in each round."""
    return [rate * factor * (1 + 0.01 * (-1) ** number) for number, rate in enumerate(STEADY)]


THEN = measured(rounds_of(advisory=STEADY, upsert=STEADY))


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.5, "slower"), (0.75, "slower"), (0.8, "inconclusive"), (0.85, "held"), (1.0, "held"), (2.0, "held")],
)
def test_a_regression_is_judged_on_the_interval(factor: float, expected: str) -> None:
    result = beside(measured(rounds_of(advisory=STEADY, upsert=times(factor))), THEN)
    assert standing(result, "upsert").value == expected
    assert standing(result, "advisory") is Standing.NOT_JUDGED
    assert (result.differs, result.control) == ((), "advisory")


def test_a_strategy_that_fails_more_often_than_in_the_baseline_is_a_regression() -> None:
    def side(errors: int) -> Measured:
        hasty = [run_of("upsert", rate, attempts=5000 + errors, errors={"55P03": errors}) for rate in times(2)]
        return measured([*rounds_of(advisory=STEADY), *hasty])

    assert standing(beside(side(5000), THEN), "upsert") is Standing.INCONCLUSIVE
    assert standing(beside(side(5000), side(5000)), "upsert") is Standing.HELD
    assert standing(beside(side(5), THEN), "upsert") is Standing.HELD


def test_a_machine_that_is_slower_today_is_no_regression_and_one_that_is_faster_hides_none() -> None:
    half = beside(measured(rounds_of(advisory=times(0.5), upsert=times(0.5))), THEN)
    assert standing(half, "upsert") is Standing.HELD
    hidden = beside(measured(rounds_of(advisory=times(2), upsert=times(1))), THEN)
    assert standing(hidden, "upsert") is Standing.SLOWER


@pytest.mark.parametrize("alone", [True, False])
def test_without_a_reference_that_stayed_the_same_only_quiet_machines_are_compared(alone: bool) -> None:
    """Alone there is no reference; beside one whose SQL has changed, it is no measure."""
    others = {} if alone else {"upsert": STEADY}

    def side(factor: float, digest: str, conditions: Conditions) -> Measured:
        runs = rounds_of(advisory=times(factor), **others)
        digests = dict.fromkeys(("advisory", *others), digest)
        return Measured(
            created="2026-11-23T00:00:00Z",
            environment=ENVIRONMENT,
            runs=runs,
            comparison=compared(runs, rounds=5, digests=digests, conditions=conditions),
        )

    quiet, busy = Conditions(load_average=0.2, stolen=0.0), Conditions(load_average=3.0)
    stolen = Conditions(load_average=0.2, stolen=0.1)
    result = beside(side(0.5, "e", quiet), side(1, "d", quiet))
    assert result.control is None
    assert standing(result, "advisory") is Standing.SLOWER
    for now, then in ((busy, quiet), (quiet, busy), (stolen, quiet)):
        assert standing(beside(side(0.5, "e", now), side(1, "d", then)), "advisory") is Standing.INCONCLUSIVE


def test_a_noisy_slowdown_is_not_called_one() -> None:
    noisy = measured(rounds_of(advisory=STEADY, upsert=[300, 1500, 400, 900, 500]))
    result = beside(noisy, THEN)
    assert standing(result, "upsert") is Standing.INCONCLUSIVE
    one = next(one for one in result.strategies if one.strategy == "upsert")
    assert one.ratio is not None
    assert one.ratio.value < 0.8 < one.ratio.high


def test_the_same_again_is_seldom_a_regression() -> None:
    drawn = np.random.default_rng(11)
    called, trials = 0, 300
    for _ in range(trials):
        rates = [{name: (1000 * np.exp(drawn.normal(0, 0.2, 5))).tolist() for name in ("a", "b")} for _ in range(2)]
        now, then = (
            Measured(created="", environment=ENVIRONMENT, runs=runs, comparison=compared(runs, reference="a", rounds=5))
            for runs in (rounds_of(**of) for of in rates)
        )
        called += any(one.standing is Standing.SLOWER for one in beside(now, then, fail_slower=0.0).strategies)
    assert called / trials < 0.06  # 2.5 %, for only one side is a regression


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("racebench", "2", "racebench was 1, is 2"),
        ("server_version", "16.14", "PostgreSQL was 18.4, is 16.14"),
        ("server_settings", {"fsync": "off"}, "fsync was on, is off"),
        ("server_settings", {"fsync": "on", "jit": "on"}, "jit was not recorded, is on"),
        ("processor", "B", "the processor was A, is B"),
        ("processor", None, "the processor was A, is not recorded"),
        ("cpu_count", 4, "the number of CPUs was 2, is 4"),
        ("target", "external", "the target was embedded, is external"),
        ("client", "extension", "the client was Python, is extension"),
    ],
)
def test_in_another_environment_no_speed_is_judged(key: str, value: object, said: str) -> None:
    slow = rounds_of(advisory=STEADY, upsert=times(0.1))
    result = beside(measured(slow, **{key: value}), THEN)
    assert result.differs == (said,)
    assert {one.standing for one in result.strategies} == {Standing.INCONCLUSIVE}
    assert len(result.strategies) == 2
    assert all(one.ratio is None for one in result.strategies)


def test_what_differs_is_said_with_what_to_do() -> None:
    def said(**environment: Any) -> str:
        now = measured(rounds_of(advisory=STEADY, upsert=STEADY), **environment)
        shown = Document(
            environment=now.environment,
            created=now.created,
            runs=tuple(now.runs),
            comparison=now.comparison,
            baseline=beside(now, THEN),
        )
        return "\n".join(line.plain for line in threshold_lines.render(shown, ascii_only=False))

    assert said(racebench="2").endswith("racebench was 1, is 2. Save another baseline under the present conditions.")
    assert "baseline under" not in said()


def test_a_baseline_from_before_the_extension_is_of_the_client_in_python() -> None:
    assert beside(measured(rounds_of(advisory=STEADY, upsert=STEADY), client="Python"), THEN).differs == ()


def test_another_python_is_the_same_environment() -> None:
    assert beside(measured(rounds_of(advisory=STEADY, upsert=STEADY), python="3.13.0"), THEN).differs == ()


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (replace(LOAD, workers=4), "workers was 8, is 4"),
        (replace(LOAD, duration_s=2.0), "duration_s was 1.0, is 2.0"),
        (replace(LOAD, hold_us=5000), "hold_us was 0, is 5000"),
    ],
)
def test_under_another_load_no_speed_is_judged(load: Any, said: str) -> None:
    runs = [replace(run, load=load) for run in rounds_of(advisory=STEADY, upsert=STEADY)]
    assert beside(measured(runs), THEN).differs == (said,)


def test_another_seed_and_other_rounds_are_the_same_load() -> None:
    runs = [replace(run, load=replace(LOAD, seed=99)) for run in rounds_of(advisory=STEADY[:3], upsert=STEADY[:3])]
    assert beside(measured(runs), THEN).differs == ()


def test_another_schema_is_not_comparable_and_another_script_is_what_is_under_test() -> None:
    slow = rounds_of(advisory=STEADY, upsert=times(0.5))
    assert beside(measured(slow, frame="g"), THEN).differs == ("the scenario's schema or consumers have changed",)
    changed = replace(
        measured(slow), comparison=compared(slow, rounds=5, digests={"advisory": "d", "upsert": "changed"})
    )
    result = beside(changed, THEN)
    assert standing(result, "upsert") is Standing.SLOWER
    assert result.strategies[-1].reason == "the interval is below 0.8; its SQL has changed since"


def test_a_new_anomaly_counts_in_any_environment_and_before_any_speed() -> None:
    runs = [*rounds_of(advisory=STEADY, upsert=times(3))[:-1], run_of("upsert", 3000.0, duplicates=1)]
    result = beside(measured(runs, cpu_count=64), THEN)
    assert standing(result, "upsert") is Standing.ANOMALY
    assert next(one.reason for one in result.strategies if one.strategy == "upsert") == "duplicates"
    # Known then, it is not new, and its speed does not matter.
    known = beside(measured(runs), measured(runs))
    assert standing(known, "upsert") is Standing.NOT_JUDGED
    more = [*runs[:-1], run_of("upsert", 3000.0, duplicates=1, missed=1)]
    assert standing(beside(measured(more), measured(runs)), "upsert") is Standing.ANOMALY


def test_without_fail_slower_no_speed_is_judged_anywhere() -> None:
    slow = rounds_of(advisory=STEADY, upsert=times(0.1))
    for environment in ({}, {"cpu_count": 64}):
        result = beside(measured(slow, **environment), THEN, fail_slower=None)
        assert {one.standing for one in result.strategies} == {Standing.NOT_JUDGED}


def test_what_is_not_in_the_baseline_is_no_pass() -> None:
    runs = rounds_of(advisory=STEADY, brand_new=STEADY)
    assert standing(beside(measured(runs), THEN), "brand-new") is Standing.INCONCLUSIVE
    assert standing(beside(measured(runs), THEN, fail_slower=None), "brand-new") is Standing.NOT_JUDGED
    wrong = [*runs[:-1], run_of("brand-new", missed=1)]
    assert standing(beside(measured(wrong), THEN, fail_slower=None), "brand-new") is Standing.INCONCLUSIVE


@pytest.mark.parametrize("rate", ["fast", None, -1.0, float("nan"), float("inf")])
def test_a_baseline_with_a_broken_figure_is_refused(rate: object) -> None:
    runs = rounds_of(advisory=STEADY, upsert=STEADY)
    runs[0] = replace(runs[0], throughput_per_s=rate)  # type: ignore[arg-type]
    with pytest.raises(UsageProblem, match="a run of 'advisory' has throughput"):
        baselines.check(replace(THEN, runs=runs), "b.json", "version-counter")


# The command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scenario of two right strategies whose speed and rightness tests change."""
    from racebench.workloads import catalog

    folder = tmp_path_factory.mktemp("project") / "orders"
    folder.mkdir()
    shipped = catalog.find_scenario("version-counter").folder
    shutil.copy(shipped / "schema.sql", folder)
    shutil.copy(shipped / "strategies" / "advisory.sql", folder / "one.sql")
    shutil.copy(shipped / "strategies" / "advisory.sql", folder / "two.sql")
    (folder / "scenario.toml").write_text(
        'title = "Orders"\nsummary = "Two."\nschema = "schema.sql"\n[rows]\ntable = "events"\n'
        '[strategies.one]\nsummary = "one"\nscript = "one.sql"\n'
        '[strategies.two]\nsummary = "two"\nscript = "two.sql"\n'
    )
    return folder


@pytest.mark.server
def test_a_baseline_is_saved_held_against_and_guards_speed_and_rightness(
    racebench: Command, project: Path, tmp_path: Path
) -> None:
    # The delays are what a run takes, on a busy machine too, and let the sessions race where they can.
    options = ["compare", str(project), "-w", "4", "--rounds", "4", "-n", "40", "--think", "1", "--hold", "1"]
    saved = racebench(*options, "--save-baseline", "main")
    assert saved.returncode == 0, saved.stderr
    path = tmp_path / "results" / "baselines" / "main.json"
    assert f"baseline: {path.relative_to(tmp_path)}" in saved.stdout
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)

    # The same again: nothing is 99 % slower.
    again = racebench(*options, "--baseline", "main", "--fail-slower", "99%", "--no-save")
    assert again.returncode == 0, again.stdout
    assert "✓ held  two" in again.stdout

    # Under another load no speed is judged, and that is said.
    other = racebench(
        *options[:2], "-w", "3", *options[4:], "--baseline", str(path), "--fail-slower", "99", "--no-save"
    )
    assert other.returncode == 5
    assert "workers was 4, is 3" in " ".join(other.stdout.split())

    # Two becomes so much slower that no noise hides it: exit 4. A baseline is not overwritten by what does not pass.
    script = project / "two.sql"
    text, before = script.read_text(), path.read_text()
    script.write_text(text.replace("COMMIT;", "\\sleep 30 ms\nCOMMIT;"))
    slower = racebench(
        *options, "--baseline", "main", "--fail-slower", "20%", "--save-baseline", "main", "--json", "s.json"
    )
    assert slower.returncode == 4, slower.stdout
    assert "✗ slower  two" in slower.stdout
    assert "its SQL has changed since" in " ".join(slower.stdout.split())
    assert "baseline: not saved, because the exit code is 4" in slower.stdout
    assert path.read_text() == before
    made = json.loads((tmp_path / "s.json").read_text())
    jsonschema.validate(made, SCHEMA)
    assert made["baseline"]["differs"] == []
    assert slower.stdout.startswith(racebench("report", "s.json").stdout)

    # It loses its lock and is fast: exit 3, and no speed makes up for it.
    script.write_text("".join(line for line in text.splitlines(keepends=True) if "advisory" not in line))
    wrong = racebench(
        *options, "--baseline", "main", "--fail-slower", "99%", "--threshold", "p50_ms < 0.0001", "--no-save"
    )
    script.write_text(text)
    assert wrong.returncode == 3, wrong.stdout
    assert "✗ new anomaly  two" in wrong.stdout


@pytest.mark.server
def test_one_strategy_alone_can_be_held_against_its_baseline(racebench: Command, project: Path) -> None:
    options = ["compare", str(project), "-s", "one", "-w", "2", "--rounds", "2", "-n", "40"]
    assert racebench(*options, "--save-baseline", "one.v1").returncode == 0
    done = racebench(*options, "--baseline", "one.v1")
    assert done.returncode == 0
    assert "· not judged  one" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "b.json:1: is not JSON"),
        ('{"schema_version": 1, "created": "2026-', "b.json:1: is not JSON"),
        ('{"schema_version": 99}', "b.json has schema version 99, this racebench reads 1"),
        ('{"schema_version": 1, "runs": 3}', "b.json is not a racebench result"),
        ("[]", "b.json is not a racebench result"),
        (
            json.dumps(
                {
                    "schema_version": 1,
                    "created": "2026-01-01T00:00:00Z",
                    "complete": True,
                    "environment": judged.ENVIRONMENT,
                    "runs": [],
                }
            ),
            "baseline b.json is not of `racebench compare`; save one with --save-baseline",
        ),
        (
            '{"schema_version": 1, "created": "", "complete": true, "environment": {}, "runs": [], "comparison": {}}',
            "b.json is not a racebench result",
        ),
        (b"\xff\xfe", "b.json cannot be read: not UTF-8 text"),
        (None, "b.json cannot be read: No such file or directory"),
    ],
    ids=["empty", "cut", "version", "runs", "list", "no comparison", "empty comparison", "bytes", "none"],
)
def test_a_baseline_file_that_is_none_is_one_line_and_starts_nothing(
    racebench: Command, tmp_path: Path, content: str | bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "b.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    done = racebench("compare", "--baseline", "b.json", "--fail-slower", "20%")
    assert_one_line(done, 2, message)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fail-slower", "20%"], "--fail-slower needs --baseline NAME"),
        (["--baseline", "main"], "baseline 'main' not found in results/baselines; save one with --save-baseline"),
        (["--baseline", "../main"], "../main cannot be read"),
        (["--save-baseline", "../main"], "--save-baseline takes a name of letters, digits, - _ and ., not '../main'"),
        (["--save-baseline", ""], "--save-baseline takes a name"),
        (
            ["--baseline", "x", "--fail-slower", "a fifth"],
            "--fail-slower is a percentage from 0 to 99, such as 20%, not",
        ),
        (
            ["--baseline", "x", "--fail-slower", "120%"],
            "--fail-slower is a percentage from 0 to 99, such as 20%, not '120%'",
        ),
    ],
)
def test_a_baseline_that_cannot_be_is_one_line_and_starts_nothing(
    racebench: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = racebench("compare", *arguments)
    assert_one_line(done, 2, message)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_baseline_is_suggested(racebench: Command, tmp_path: Path) -> None:
    (tmp_path / "results" / "baselines").mkdir(parents=True)
    (tmp_path / "results" / "baselines" / "main.json").write_text("{}")
    done = racebench("compare", "--baseline", "mian")
    assert done.returncode == 2
    assert "did you mean 'main'?" in done.stderr


@pytest.mark.server
def test_a_baseline_of_another_scenario_is_refused(racebench: Command, project: Path) -> None:
    options = ["-w", "2", "--rounds", "2", "-n", "8"]
    assert racebench("compare", str(project), *options, "--save-baseline", "orders").returncode == 0
    done = racebench("compare", "-s", "advisory", "-s", "upsert", *options, "--baseline", "orders")
    assert done.returncode == 2
    assert "is of 'orders', this is 'version-counter'" in done.stderr


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document, but for what only witnesses and timelines hold."""
    found = [path] if path else []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        found += _places(value, (*path, key))
    return found


def test_a_baseline_damaged_anywhere_is_refused_or_read_and_never_fails_later() -> None:
    runs = rounds_of(advisory=STEADY[:2], upsert=STEADY[:2])
    now = measured(runs)
    whole = Document(
        environment=now.environment, created="2026-11-23T00:00:00Z", runs=tuple(runs), comparison=now.comparison
    )
    text = document.to_json(whole)
    refused = 0
    # One run stands for all: they are read alike.
    for path in [path for path in _places(json.loads(text)) if path[:1] != ("runs",) or path[1:2] in ((), (0,))]:
        for damage in (None, "x", [], {}, -1, 1e400):
            data = json.loads(text)
            holder = data
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = damage
            try:
                then = reading.from_json(json.dumps(data), "b.json")
                earlier = _side(then)
                if earlier is not None:
                    baselines.check(earlier, "b.json", "version-counter")
            except UsageProblem:
                refused += 1
                continue
            if earlier is not None:
                result = baselines.beside(now, earlier, name="b", fail_slower=0.2)
                list(threshold_lines.render(replace(whole, baseline=result), ascii_only=False))
    assert refused > 100


def _side(made: Document) -> Measured | None:
    if made.comparison is None:
        return None
    return Measured(created=made.created, environment=made.environment, runs=made.runs, comparison=made.comparison)
