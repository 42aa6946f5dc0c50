"""A stage for the reference's roles in a namespace of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.reference.session import Znodes
from tests.reference.stage import TIMEOUT, Stage


@pytest.fixture
def znodes(namespace: str) -> Iterator[Znodes]:
    with Znodes(namespace, TIMEOUT) as view:
        yield view


@pytest.fixture
def stage(namespace: str) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(namespace, stack)
