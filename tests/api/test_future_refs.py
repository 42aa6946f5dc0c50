"""A reference to a future keeps what the I/O thread needs when the future is gone."""

from __future__ import annotations

import gc
from typing import Any

from herdmaster.api.future import Future
from herdmaster.api.future_refs import FutureRef, ref_to


def test_a_reference_has_the_name_and_the_reader_when_the_future_is_gone() -> None:
    keeper: Any = None
    reader: Any = object()
    dropped: list[FutureRef] = []
    future: Future[object] = Future("task-a", keeper)
    ref = ref_to(future, reader, dropped.append)
    assert ref() is future

    del future
    gc.collect()
    assert ref() is None
    assert dropped == [ref]
    assert (ref.name, ref.reader) == ("task-a", reader)
