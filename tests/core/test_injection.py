"""Faults as they are written: read whole, or refused in one line that shows how they are written."""

from __future__ import annotations

import pytest

from racebench.core import injection
from racebench.core.errors import UsageProblem
from racebench.core.injection import EXAMPLES, Fault, FaultKind, parse


@pytest.mark.parametrize("kind", FaultKind)
def test_every_kind_is_read_as_its_example_has_it(kind: FaultKind) -> None:
    fault = parse(EXAMPLES[kind])
    assert (fault.kind, fault.text) == (kind, EXAMPLES[kind])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("cut:0.5%", Fault(kind=FaultKind.CUT, text="cut:0.5%", percent=0.5)),
        ("stall:2s:1 %", Fault(kind=FaultKind.STALL, text="stall:2s:1 %", percent=1.0, duration_us=2_000_000)),
        (
            "latency:5ms±2ms",
            Fault(kind=FaultKind.LATENCY, text="latency:5ms±2ms", duration_us=5_000, spread_us=2_000),
        ),
        (" latency:50us ", Fault(kind=FaultKind.LATENCY, text="latency:50us", duration_us=50)),
        (
            "terminate-backend:100ms",
            Fault(kind=FaultKind.TERMINATE_BACKEND, text="terminate-backend:100ms", duration_us=100_000),
        ),
    ],
)
def test_a_fault_has_its_percentage_and_its_times(text: str, fault: Fault) -> None:
    assert parse(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "fault '' is unknown; known: crash-server"),
        ("cut-after:1%", "fault 'cut-after' is unknown; did you mean 'cut-after-commit'?"),
        ("cut", "fault 'cut' cannot be read: a percentage is above 0% and at most 100%; it is written 'cut:2%'"),
        ("cut:2", "a percentage is above 0%"),
        ("cut:0%", "a percentage is above 0%"),
        ("cut:101%", "a percentage is above 0%"),
        ("cut:nan%", "a percentage is above 0%"),
        ("stall:1%", "a time has a unit"),
        ("stall:200:1%", "a time has a unit"),
        ("stall:61s:1%", "at most 60s"),
        ("latency:2ms±3ms", "the latency would be below 0"),
        ("terminate-backend:every 1ms", "the shortest time is 10 ms"),
        ("crash-server:twice", "it is injected once"),
    ],
)
def test_a_fault_that_cannot_be_read_is_one_line_with_an_example(text: str, says: str) -> None:
    with pytest.raises(UsageProblem) as problem:
        parse(text)
    assert says in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_load_has_the_faults_of_its_scenario_unless_it_names_its_own_or_none() -> None:
    default = (parse("cut:2%"),)
    assert injection.chosen((), default) == default
    assert injection.chosen(["stall:1ms:1%"], default) == (parse("stall:1ms:1%"),)
    assert injection.chosen(["none"], default) == ()
    with pytest.raises(UsageProblem, match="given twice"):
        injection.chosen(["cut:2%", "cut:2%"], default)


def test_only_a_server_that_racebench_has_started_is_crashed() -> None:
    faults = injection.parse_all(["cut:2%", "crash-server:once"])
    injection.check(faults, embedded=True)
    injection.check(faults[:1], embedded=False)
    with pytest.raises(UsageProblem, match="is for the embedded server"):
        injection.check(faults, embedded=False)
