from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.members import (
    DRAINING,
    MAX_SLOTS,
    MasterRecord,
    WorkerRecord,
    decode_master,
    decode_worker,
    encode_record,
    worker_state,
)
from herdmaster.core.roster import WorkerState


def test_records_are_read_as_they_were_written() -> None:
    master = MasterRecord("master-1", "host", 42, 1_700_000_000_000)
    worker = WorkerRecord(8, ("default", "mail"), DRAINING, "host", 42, 1_700_000_000_000, "0.1.0")

    assert decode_master(encode_record(master)) == master
    assert decode_worker(encode_record(worker)) == worker


def test_a_worker_says_what_it_takes() -> None:
    assert worker_state(encode_record(WorkerRecord(8, ("a", "b")))) == WorkerState(8, frozenset({"a", "b"}))
    drains = worker_state(encode_record(WorkerRecord(8, state=DRAINING)))
    assert drains is not None
    assert drains.draining


@pytest.mark.parametrize("data", [b"Idle", b"Working"])
def test_a_reference_worker_is_known_by_its_plain_text(data: bytes) -> None:
    state = worker_state(data)

    assert state is not None
    assert state.reference


def test_fields_of_a_later_version_are_left_alone() -> None:
    assert worker_state(b'{"slots":2,"queues":["default"],"zone":"north"}') == WorkerState(2, frozenset({"default"}))


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"",
        b"idle",
        b"null",
        b"[]",
        b"{}",
        b'{"slots":0}',
        b'{"slots":-1}',
        b'{"slots":%d}' % (MAX_SLOTS + 1),
        b'{"slots":"4"}',
        b'{"slots":4,"queues":"default"}',
        b'{"slots":4,"queues":[[]]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data)[:20],
)
def test_a_worker_node_with_garbage_says_nothing_usable(data: bytes | None) -> None:
    assert worker_state(data) is None


@pytest.mark.parametrize("data", [None, b"", b"1a2b3c4d", b"{}", b"[" * 100_000], ids=lambda data: repr(data)[:20])
def test_a_primary_of_the_references_is_known_by_its_data_being_no_record(data: bytes | None) -> None:
    assert decode_master(data) is None


@given(st.binary(max_size=200))
def test_no_bytes_are_too_hostile(data: bytes) -> None:
    decode_master(data)
    worker_state(data)
