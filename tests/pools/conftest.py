from __future__ import annotations

import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest


@pytest.fixture
async def gate() -> AsyncIterator[threading.Event]:
    """Opens at the end of the test if not before, so that no thread waits for ever."""
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    """Threads take turns as often as they can, so that every moment between two steps is one where another goes on."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
