from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herdmaster.pools import child_logs
from herdmaster.pools.output import MAX_LINE

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)


def record_of(message: str, exception: str | None) -> logging.LogRecord:
    record = logging.LogRecord("shop", logging.WARNING, "", 0, "%s", (message,), None)
    record.exc_text = exception
    return record


@given(texts, st.none() | texts, st.integers(1, 500))
def test_a_record_fits_one_line_and_is_cut_only_if_it_would_not(text: str, exception: str | None, times: int) -> None:
    line = child_logs._encode(record_of(text * times, exception))
    assert len(line) <= MAX_LINE
    assert line.count(b"\n") == 1
    made = child_logs._decoder.decode(line.decode().removeprefix(child_logs.MARK))
    assert made.exception == exception
    assert made.message == text * times or made.message.endswith(" ... (cut)")
    if len(text) * times < 1000:
        assert made.message == text * times


def test_text_of_the_dearest_characters_fits_too() -> None:
    assert len(child_logs._encode(record_of("\x01" * 100_000, "\x01" * 100_000))) <= MAX_LINE


def test_the_name_of_a_file_that_is_no_unicode_can_be_logged() -> None:
    line = child_logs._encode(record_of("bad\udcff.png", None))
    assert b"bad\\\\udcff.png" in line


def test_what_is_no_record_is_printed(caplog: pytest.LogCaptureFixture) -> None:
    for line in ("plain", f"{child_logs.MARK}no JSON", f'before {child_logs.MARK}{{"name": 1}}'):
        assert child_logs.relay(line) == line
    assert caplog.records == []


def test_the_apps_other_handlers_are_left_to_the_process(caplog: pytest.LogCaptureFixture) -> None:
    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sent.append(record.getMessage())

    sent: list[str] = []
    logger = logging.getLogger("shop")
    sender = Sender()
    logger.addHandler(sender)
    line = child_logs._encode(record_of("hello", None)).decode().rstrip()
    try:
        assert child_logs.relay(f"before {line}") == "before "
        assert [record.getMessage() for record in caplog.records] == ["hello"]
        assert sent == []
        logger.propagate = False  # without a console the others are better than nothing
        child_logs.relay(line)
        assert sent == ["hello"]
    finally:
        logger.propagate = True
        logger.removeHandler(sender)
