"""Herdmaster's loggers after an app has configured logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from herdmaster.pools import own_loggers

OURS, ROOT = logging.getLogger("herdmaster"), logging.getLogger()


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No handlers and no levels, as in a program that has configured nothing."""
    levels = OURS.level, ROOT.level
    for logger in (OURS, ROOT):
        monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(OURS, "propagate", True)
    OURS.setLevel(logging.NOTSET)
    ROOT.setLevel(logging.WARNING)
    yield
    OURS.setLevel(levels[0])
    ROOT.setLevel(levels[1])


def test_our_loggers_are_enabled_again_and_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = logging.getLogger("herdmaster.test_own.part")  # its parent is a placeholder
    others = [logging.getLogger(name) for name in ("herdmasters", "shop.herdmaster")]
    for logger in (OURS, ours, *others):
        monkeypatch.setattr(logger, "disabled", True)
    own_loggers.restore(logging.INFO, lambda: None)

    assert [logger.disabled for logger in (OURS, ours, *others)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("own", "root", "level"),
    [
        (logging.NOTSET, logging.WARNING, logging.INFO),
        (logging.NOTSET, logging.DEBUG, logging.NOTSET),
        (logging.NOTSET, logging.INFO, logging.NOTSET),
        (logging.ERROR, logging.WARNING, logging.ERROR),
    ],
)
def test_lines_are_logged_from_a_level_on_unless_the_app_says_otherwise(own: int, root: int, level: int) -> None:
    OURS.setLevel(own)
    ROOT.setLevel(root)
    own_loggers.restore(logging.INFO, lambda: None)

    assert (OURS.level, ROOT.level) == (level, root)


@pytest.mark.parametrize("has", ["no handler", "a handler", "a handler of the root", "an app that propagates nothing"])
def test_a_handler_is_made_only_if_none_is_left(has: str) -> None:
    ROOT.handlers.clear()  # pytest adds its own for the time of the test
    there, made = logging.NullHandler(), logging.NullHandler()
    if has == "a handler":
        OURS.addHandler(there)
    elif has == "a handler of the root":
        ROOT.addHandler(there)
    OURS.propagate = has != "an app that propagates nothing"
    own_loggers.restore(logging.INFO, lambda: made)

    assert (made in OURS.handlers) == (has == "no handler")
    assert made not in ROOT.handlers


def test_no_handler_is_added_where_none_is_made() -> None:
    own_loggers.restore(logging.INFO, lambda: None)

    assert OURS.handlers == []
