"""Order of deliveries: a kept history is judged as the run was, and real consumers as they deliver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from conftest import Command, shows
from histories import Op, Poll, Row, all_findings, history
from racebench.core.results import RunResult
from racebench.core.verdict import Verdict
from racebench.history import archive
from racebench.history.recorded import About, Recorded
from racebench.history.records import OPERATION_BITS

MS = 1_000_000
#: Of three rows only 1 and 3 have an order, and 3 comes first; 2 overlaps both.
ONE, TWO, THREE = (session << OPERATION_BITS for session in (1, 2, 3))
ONE_PAIR = history(
    [Op(ONE, 0, 2 * MS), Op(TWO, 1 * MS, 9 * MS), Op(THREE, 3 * MS, 4 * MS)],
    [Row(1, 2, ONE), Row(2, 3, TWO), Row(3, 1, THREE)],
    [Poll((3, 2, 1), 3)],
    bits=OPERATION_BITS,
)


def test_a_witness_has_both_rows_their_operations_and_the_polls() -> None:
    (witness,) = all_findings(ONE_PAIR)["out-of-order"].witnesses
    assert [row["id"] for row in witness.rows] == [3, 1]
    assert [operation["operation"] for operation in witness.operations] == [THREE, ONE]
    assert [poll["poll"] for poll in witness.polls] == [0]
    assert "row 3 by poll 0 and row 1 later in the same poll 0" in witness.explanation


def test_a_file_is_judged_alike_and_forbids_it_only_if_it_says_so(racebench: Command, tmp_path: Path) -> None:
    for name, forbidden in (("allowed", ()), ("forbidden", ("out-of-order",))):
        about = About(scenario="mine", strategy="s", forbidden=forbidden)
        archive.write(tmp_path / f"{name}.npz", Recorded(history=ONE_PAIR, about=about))
    assert racebench("check", "forbidden.npz", "--export", "jsonl", "-o", "forbidden.jsonl").returncode == 0
    for name, code in (("allowed.npz", 0), ("forbidden.jsonl", 3)):
        done = racebench("check", name, "--fail-on", "any")
        assert done.returncode == code, done.stderr
        assert "3 delivered, 0 missed, 0 again, 1 out of order" in done.stdout
        assert ("One of the out-of-order rows" in done.stdout) == bool(code)


def test_a_horizon_delivers_in_the_order_of_commits_where_a_look_back_does_not(
    hammer: Callable[..., RunResult],
) -> None:
    """Sessions draw numbers in blocks, so that a later row may have the lower number."""
    result = hammer("sequence-cache", "horizon lookback", workers=4, operations=300, until=shows("out-of-order"))
    horizon, lookback = result.consumers
    assert horizon.counts["out-of-order"] == 0 < lookback.counts["out-of-order"]
    assert "out-of-order" not in result.found, "no scenario forbids it"
    assert horizon.verdict is Verdict.VALID
