"""A document that is written again after each run has the same text as one that is written at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from racebench.reports.results.document import RunTexts, to_json
from racebench.reports.results.reading import from_json

_MATRIX = Path(__file__).parents[2] / "results/reference/matrix.json"


@pytest.mark.parametrize("witnesses", [None, 0, 1])
def test_the_texts_of_earlier_runs_are_used_and_those_of_changed_ones_are_not(witnesses: int | None) -> None:
    whole = from_json(_MATRIX.read_text(), "matrix.json")
    texts = RunTexts()
    for count in (0, 1, 3):
        part = replace(whole, runs=whole.runs[:count])
        written = to_json(part, witnesses=witnesses, texts=texts)
        assert written == to_json(part, witnesses=witnesses)
        assert written == json.dumps(json.loads(written), indent=2, ensure_ascii=False)
    other = replace(part, runs=(*part.runs[:2], whole.runs[7]))
    assert to_json(other, witnesses=witnesses, texts=texts) == to_json(other, witnesses=witnesses)
