"""The scenario that a command runs, explores or replays: one that is named, or the user's own code."""

from __future__ import annotations

from dataclasses import replace

from racebench.cli.option_groups import SubjectOptions, TargetOptions
from racebench.core.model import Scenario
from racebench.workloads import ad_hoc


def find_scenario(subject: SubjectOptions, target: TargetOptions, *, separate: bool = False) -> Scenario:
    """The scenario that is named, or that the user's own code makes up; raises UsageProblem or ScenarioProblem.

    `separate`: each callable and each file is a strategy of its own.
    """
    scenario = ad_hoc.find(
        subject.scenario,
        called=subject.call,
        setup=subject.setup,
        invariants=subject.invariant,
        others=subject.files,
        apart=separate,
    )
    if not target.superuser:
        return scenario
    words = scenario.options
    return replace(scenario, superuser=True, options=None if words is None else (*words, "--superuser"))
