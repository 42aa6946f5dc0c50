from __future__ import annotations

import contextlib
import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.errors import SoftTimeLimitExceeded
from herdmaster.pools import child_logs
from herdmaster.pools.output import MAX_LINE

MARK = child_logs.new_mark()

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


def record_of(message: str, exception: str | None) -> logging.LogRecord:
    record = logging.LogRecord("shop", logging.WARNING, "", 0, "%s", (message,), None)
    record.exc_text = exception
    return record


@given(texts, st.none() | texts, st.integers(1, 500))
def test_a_record_fits_one_line_and_is_cut_only_if_it_would_not(text: str, exception: str | None, times: int) -> None:
    line = child_logs._encode(record_of(text * times, exception), MARK)
    assert len(line) <= MAX_LINE
    assert line.count(b"\n") == 1
    made = child_logs._decoder.decode(line.decode().removeprefix(MARK))
    assert made.exception == exception
    assert made.message == text * times or made.message.endswith(" ... (cut)")
    if len(text) * times < 1000:
        assert made.message == text * times


def test_text_of_the_dearest_characters_fits_too() -> None:
    assert len(child_logs._encode(record_of("\x01" * 100_000, "\x01" * 100_000), MARK)) <= MAX_LINE


def test_the_name_of_a_file_that_is_no_unicode_can_be_logged() -> None:
    line = child_logs._encode(record_of("bad\udcff.png", None), MARK)
    assert b"bad\\\\udcff.png" in line


def test_what_is_no_record_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    other = child_logs.new_mark()
    forged = child_logs._encode(record_of("elected", None), other).decode().rstrip()  # as a task may print it
    for line in ("plain", f"{MARK}no JSON", f'before {MARK}{{"name": 1}}', forged):
        assert child_logs.relay(line, MARK) == line
    assert caplog.records == []


def test_the_apps_other_handlers_are_left_to_the_process(caplog: pytest.LogCaptureFixture) -> None:
    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sent.append(record.getMessage())

    sent: list[str] = []
    logger = logging.getLogger("shop")
    sender = Sender()
    logger.addHandler(sender)
    line = child_logs._encode(record_of("hello", None), MARK).decode().rstrip()
    try:
        assert child_logs.relay(f"before {line}", MARK) == "before "
        assert [record.getMessage() for record in caplog.records] == ["hello"]
        assert sent == []
        logger.propagate = False  # without a console the others are better than nothing
        child_logs.relay(line, MARK)
        assert sent == ["hello"]
    finally:
        logger.propagate = True
        logger.removeHandler(sender)


def test_a_line_is_written_whole_although_the_pipe_takes_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, bytes]] = []

    def write(descriptor: int, data: bytes) -> int:
        written.append((descriptor, data[:7]))
        return min(len(data), 7)

    monkeypatch.setattr(os, "write", write)
    record = record_of("hello", None)
    child_logs.ChildHandler().emit(record)
    monkeypatch.undo()

    assert {descriptor for descriptor, _ in written} == {2}
    assert b"".join(data for _, data in written) == child_logs._encode(record, child_logs.MARK)


@pytest.mark.parametrize(
    ("error", "raised", "is_told"),
    [
        (SoftTimeLimitExceeded("late"), SoftTimeLimitExceeded, False),
        (OSError(9, "closed"), None, False),
        (ValueError("a bad call"), None, True),
    ],
)
def test_what_writing_a_record_raises_ends_the_task_only_if_it_is_its_limit(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception] | None, is_told: bool
) -> None:
    told: list[logging.LogRecord] = []

    def write(_descriptor: int, _data: bytes) -> int:
        raise error

    handler, record = child_logs.ChildHandler(), record_of("hello", None)
    monkeypatch.setattr(handler, "handleError", told.append)
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(raised) if raised is not None else contextlib.nullcontext():
        handler.emit(record)

    assert told == ([record] if is_told else [])
