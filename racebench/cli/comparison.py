"""From the options of compare to a request in rounds, and the files of baselines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from racebench.analysis import baselines
from racebench.analysis.baselines import Measured
from racebench.cli.files import check_file
from racebench.cli.option_groups import (
    ComparisonOptions,
    GateOptions,
    LoadOptions,
    MachineOptions,
    OutputOptions,
    SubjectOptions,
    TargetOptions,
)
from racebench.cli.requests import ComparisonRequest, Measurement, concerning, drafted, limits_of
from racebench.cli.subjects import find_scenario
from racebench.core.errors import UsageProblem, suggest
from racebench.core.model import Origin
from racebench.load.rounds import default_reference
from racebench.reports.results import reading
from racebench.reports.results.document import Document, check_writable

DEFAULT_SECONDS = 1.0
BASELINES = "baselines"

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def comparison(
    subject: SubjectOptions,
    load: LoadOptions,
    options: ComparisonOptions,
    target: TargetOptions,
    output: OutputOptions,
    gates: GateOptions,
    machines: MachineOptions | None = None,
) -> Measurement:
    """The request of compare; makes the results folder. Raises UsageProblem for the first invalid option."""
    limits = limits_of(gates)
    if options.fail_slower is not None and options.baseline is None:
        raise UsageProblem("--fail-slower needs --baseline NAME: the result that it is compared with")
    reference = options.reference
    subject = replace(
        subject, strategies=(*(subject.strategies or ("correct",)), *((reference,) if reference is not None else ()))
    )
    output = replace(output, history=bool(output.history))
    scenario = find_scenario(subject, target, separate=True)
    request = drafted(
        scenario, subject, load, target, output, gates, default_seconds=DEFAULT_SECONDS, machines=machines
    )
    strategies = request.campaign.strategies
    if len(strategies) < 2 and options.baseline is None and options.save_baseline is None:
        more = (
            "another file, --call, --exec or --http"
            if scenario.origin is Origin.OWN_CODE
            else "--strategy or --reference"
        )
        raise UsageProblem(
            f"compare needs two strategies or more, not only '{strategies[0].name}'; add {more}"
            if strategies
            else f"no strategy of '{scenario.name}' is in that group; name two"
        )
    if reference is not None and reference not in scenario.strategies:
        raise UsageProblem(f"--reference '{reference}' is a group; name one strategy")
    reference = reference or default_reference(scenario, strategies)
    limits_with_strategies = concerning(limits, request.campaign, reference=reference)
    folder = Path(output.results) / BASELINES
    save_to = None
    if options.save_baseline is not None:
        save_to = folder / f"{_checked_name('--save-baseline', options.save_baseline)}.json"
    baseline = None
    if options.baseline is not None:
        baseline = _read(_path_of(options.baseline, folder), scenario.name)
    request.files.check()
    if save_to is not None:
        check_writable(folder)
        check_file("--save-baseline", save_to)
    return replace(
        request,
        campaign=replace(request.campaign, rounds=options.rounds),
        thresholds=limits_with_strategies,
        witnesses=1,
        comparison=ComparisonRequest(
            reference=reference,
            margin=options.margin / 100,
            fail_slower=None if options.fail_slower is None else options.fail_slower / 100,
            baseline=baseline,
            baseline_name=options.baseline or "",
            save_to=save_to,
        ),
    )


def _checked_name(option: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageProblem(f"{option} takes a name of letters, digits, - _ and ., not '{name}'")
    return name


def _path_of(baseline: str, folder: Path) -> Path:
    """The file of a baseline given by name, or the file itself."""
    if "/" in baseline or baseline.endswith(".json"):
        return Path(baseline)
    path = folder / f"{_checked_name('--baseline', baseline)}.json"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.json")]
        hint = suggest(baseline, known) or "; save one with --save-baseline"
        raise UsageProblem(f"baseline '{baseline}' not found in {folder}{hint}")
    return path


def _read(path: Path, scenario: str) -> Measured:
    saved = reading.read(path)
    if saved.comparison is None:
        raise UsageProblem(f"baseline {path} is not of `racebench compare`; save one with --save-baseline")
    measured = measured_of(saved)
    baselines.check(measured, str(path), scenario)
    return measured


def measured_of(compared: Document) -> Measured:
    """A comparison's document, as one side of a comparison with a baseline."""
    assert compared.comparison is not None
    return Measured(
        created=compared.created,
        environment=compared.environment,
        runs=compared.runs,
        comparison=compared.comparison,
    )
