"""A document's counts are complete, or are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from racebench.core import anomalies
from racebench.core.anomalies import ANOMALIES, counts_of_document


def test_a_document_that_lacks_a_kind_is_refused_unless_the_kind_was_added_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = dict.fromkeys(ANOMALIES, 1)
    assert counts_of_document({**counts, "rows": 7}) == {**counts, "rows": 7}
    del counts["gaps"]
    with pytest.raises(KeyError):
        counts_of_document(counts)
    later = {**ANOMALIES, "gaps": replace(ANOMALIES["gaps"], added_later=True)}
    monkeypatch.setattr(anomalies, "ANOMALIES", later)
    assert counts_of_document(counts) == {**counts, "gaps": 0}
