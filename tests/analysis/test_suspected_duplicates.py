"""Suspected duplicates are counted as operations end, in portions, as the whole is counted at once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from racebench.analysis.streaming.duplicates import SuspectedDuplicates
from racebench.core.model import Outcome
from racebench.history.records import NO_VERSION, OPERATION, encode_status

OPERATIONS = st.tuples(
    st.integers(1, 3),
    st.sampled_from([NO_VERSION, -1, 0, 1, 2, 3, 2**48 + 1, 2**63 - 1]),
    st.sampled_from([(Outcome.OK, ""), (Outcome.OK, ""), (Outcome.FAIL, ""), (Outcome.UNKNOWN, "08006")]),
)


@given(st.lists(st.lists(OPERATIONS, max_size=12), max_size=6))
def test_an_operation_is_suspected_if_an_acknowledged_one_before_it_said_its_number(
    portions: list[list[tuple[int, int, tuple[Outcome, str]]]],
) -> None:
    suspected, clock, said = SuspectedDuplicates(), 0, Counter[tuple[int, int]]()
    for portion in portions:
        records = np.zeros(len(portion), OPERATION)
        expected = []
        for at, (tenant, version, (outcome, sqlstate)) in enumerate(portion):
            clock += 2
            records[at] = (clock - 1, clock, version, tenant, 1, encode_status(outcome, sqlstate))
            if outcome is Outcome.OK and version != NO_VERSION:
                if said[tenant, version]:
                    expected.append((tenant, version))
                said[tenant, version] += 1
        found = suspected.take(records[np.random.default_rng(clock).permutation(len(records))])
        assert [*zip(found["tenant"].tolist(), found["version"].tolist(), strict=True)] == expected
    assert suspected.suspected == said.total() - len([*said])
    assert suspected.numbered == said.total()
