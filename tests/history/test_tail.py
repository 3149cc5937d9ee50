"""What a session's worker records is followed while it is written: each operation once, when it has ended."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from racebench.core.model import Outcome
from racebench.history.records import NO_VERSION, OPERATION, RecordFile, encode_status
from racebench.history.tail import Tail

OK = encode_status(Outcome.OK, "")
#: A few records to a chunk, so that the file grows often; a chunk's bytes are a multiple of a page's.
CHUNK = 4096


@pytest.fixture
def file(tmp_path: Path) -> Iterator[RecordFile]:
    with closing(RecordFile(tmp_path / "worker-1", OPERATION, CHUNK)) as record:
        yield record


def write(file: RecordFile, version: int, status: int = OK) -> None:
    file.begin(version, 0, NO_VERSION, 1, 1, 0)
    file.finish(version, version + 1, version, 1, 1, status)


def test_an_operation_is_read_once_and_only_when_it_has_ended(file: RecordFile) -> None:
    tail = Tail(file.path)
    assert not tail.read()
    file.begin(5, 0, NO_VERSION, 1, 1, 0)
    assert not tail.read()
    file.finish(5, 6, 7, 1, 1, OK)
    assert np.frombuffer(tail.read(), OPERATION).tolist() == [(5, 6, 7, 1, 1, OK)]
    assert not tail.read()


def test_a_refusal_has_ended_as_soon_as_its_outcome_is_written_and_not_with_its_code(file: RecordFile) -> None:
    tail = Tail(file.path)
    code = encode_status(Outcome.FAIL, "40001")
    file.begin(5, 6, 7, 1, 1, code & 0xFFFFFF)  # the last byte, which has the outcome, is not there yet
    assert not tail.read()
    file.finish(5, 6, 7, 1, 1, code)
    assert len(tail.read()) == OPERATION.itemsize


def test_a_file_that_is_not_there_yet_is_read_when_it_is(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "worker-1")
    assert not tail.read()
    with closing(RecordFile(tmp_path / "worker-1", OPERATION, CHUNK)) as file:
        write(file, 1)
        assert len(tail.read()) == OPERATION.itemsize


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=8))
def test_whatever_is_written_between_two_looks_is_read_in_order_across_chunks(
    tmp_path_factory: pytest.TempPathFactory, portions: list[int]
) -> None:
    path = tmp_path_factory.mktemp("tail") / "worker-1"
    seen: list[int] = []
    tail = Tail(path)
    with closing(RecordFile(path, OPERATION, CHUNK)) as file:
        for portion in portions:
            for _ in range(portion):
                write(file, file.count + 1)
            while part := tail.read():
                seen += np.frombuffer(part, OPERATION)["version"].tolist()
        assert np.array_equal(seen, np.arange(1, file.count + 1))


def test_a_full_chunk_is_read_to_its_end(file: RecordFile) -> None:
    for version in range(1, CHUNK + 1):
        write(file, version)
    tail = Tail(file.path)
    assert len(tail.read()) == CHUNK * OPERATION.itemsize
    assert not tail.read()


def test_more_sessions_than_files_may_be_open_are_followed(file: RecordFile) -> None:
    write(file, 1)
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    tails = [Tail(file.path) for _ in range(300)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        assert all(tail.read() for tail in tails)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
