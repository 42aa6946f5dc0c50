"""Fallbacks are out of reach in the tests that are not about them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from herdmaster.roles.primary import part, promotion
from herdmaster.roles.worker import commits
from tests.fallbacks import FALLBACKS, FOLDERS, NEVER, Switch


@pytest.fixture
def switch() -> Iterator[Switch]:
    switch = Switch()
    yield switch
    switch.leave(None)


def test_a_constant_is_set_where_it_is_and_where_it_was_imported_and_then_as_before(switch: Switch) -> None:
    assert (part.SET_ASIDE_SECONDS, commits._TRY_LATER_SECONDS) == (30.0, 1.0)

    switch.leave(())
    assert (part.SET_ASIDE_SECONDS, part.TRY_LATER_SECONDS, commits._TRY_LATER_SECONDS) == (NEVER,) * 3
    assert vars(promotion).get("SET_ASIDE_SECONDS", NEVER) == NEVER
    switch.leave(("TRY_LATER_SECONDS",))
    assert (part.SET_ASIDE_SECONDS, part.TRY_LATER_SECONDS, commits._TRY_LATER_SECONDS) == (NEVER, 1.0, NEVER)
    switch.leave(None)
    assert (part.SET_ASIDE_SECONDS, part.TRY_LATER_SECONDS, commits._TRY_LATER_SECONDS) == (30.0, 1.0, 1.0)


def test_a_marker_names_a_fallback(request: pytest.FixtureRequest) -> None:
    known = {name for each in FALLBACKS for name in (each, each.partition(":")[2])}

    for item in request.session.items:
        for marker in item.iter_markers("fallback"):
            assert item.nodeid.startswith(FOLDERS)
            assert set(marker.args) <= known, item.nodeid
