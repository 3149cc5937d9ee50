"""When operations begin: the same rule for workers that run scripts and workers that call Python."""

from __future__ import annotations

import time
from random import Random

from racebench.core.model import Load
from racebench.load.pacing import ENDLESS, DueTimes, Go, Phase, jitter_s, phases, wait_until
from racebench.workloads import arrivals

LOAD = Load(workers=2, duration_s=1.0, operations=None)


def test_without_a_warm_up_there_is_one_phase() -> None:
    assert list(phases(Go(100, 100, 500), 7)) == [Phase(500, 7)]
    assert list(phases(Go(100, 100, None), 7)) == [Phase(2**63 - 1, 7)]
    assert list(phases(Go(100, 100, 500), None)) == [Phase(500, ENDLESS)]


def test_a_warm_up_ends_by_time_and_does_not_count_towards_the_operations() -> None:
    assert list(phases(Go(100, 300, 500), 7)) == [Phase(300, ENDLESS), Phase(500, 7)]


def test_jitter_is_within_its_limit_and_draws_nothing_if_there_is_none() -> None:
    random = Random(1)
    assert jitter_s(LOAD, random) == 0.0
    assert random.random() == Random(1).random()
    jittered = Load(workers=2, duration_s=1.0, operations=None, jitter_us=500)
    assert all(0 <= jitter_s(jittered, random) <= 500e-6 for _ in range(100))


def test_due_times_are_those_of_the_session_and_end_with_the_phase() -> None:
    load = Load(workers=2, duration_s=1.0, operations=None, rate_per_s=20.0, seed=4)
    first = next(arrivals.times(4, 2, 10.0))
    start = time.perf_counter_ns()
    far, soon = Phase(2**63 - 1, 1), Phase(start + 1, 1)
    pause = DueTimes(load, 2).pause_s(Go(start, start, None), far)
    assert first / 1e9 - 5.0 < pause <= first / 1e9
    assert DueTimes(load, 2).pause_s(Go(start, start, None), soon) < 0


def test_no_worker_begins_before_the_common_start() -> None:
    start = time.perf_counter_ns() + 2_000_000
    wait_until(start)
    assert time.perf_counter_ns() >= start
