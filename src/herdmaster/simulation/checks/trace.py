"""What happened, in order: cheap to collect, and put into words only when it is read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Self

from herdmaster.simulation.checks.effects import Deed, tell


class Story:
    """`now` gives the world's time in seconds, `who` the process whose code runs."""

    def __init__(self, now: Callable[[], float], who: Callable[[], str]) -> None:
        self._now = now
        self.who = who
        self._events: list[tuple[float, str, str | Deed, tuple[object, ...]]] = []

    def add(self, who: str, text: str, *args: object) -> None:
        """`text` is a format of `%`; the arguments must never change afterwards."""
        self._events.append((self._now(), who, text, args))

    def add_deed(self, who: str, deed: Deed) -> None:
        self._events.append((self._now(), who, deed, ()))

    def lines(self) -> list[str]:
        found = []
        for now, who, event, args in self._events:
            if isinstance(event, Deed):
                text = f"{tell(event)} [zxid {event.zxid & 0xFFFFFFFF:x}, session {event.session_id:x}]"
            else:
                text = event % args if args else event
            found.append(f"{now:11.6f}  {who:<14} {text}")
        return found


class Eavesdropper(logging.Handler):
    """Hears what the roles log. A fault that a role lived through is one all the same; the rest goes into the story, if
    that is wanted."""

    _FAULTS: Final = ("cannot be sent", "was refused: ")

    def __init__(self, story: Story, fail: Callable[[str], None], *, listen: bool) -> None:
        super().__init__(logging.DEBUG if listen else logging.ERROR)
        self._story = story
        self._fail = fail
        self._listen = listen
        self._logger = logging.getLogger("herdmaster")
        self._before = (self._logger.level, self._logger.propagate)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if self._listen:
            self._story.add(self._story.who(), "says: %s", text)
        if record.exc_info:
            error = record.exc_info[1]
            self._fail(f"{self._story.who()}: {text}: {type(error).__name__}: {error}")
        elif record.levelno >= logging.ERROR and any(fault in text for fault in self._FAULTS):
            self._fail(f"{self._story.who()}: {text}")

    def __enter__(self) -> Self:
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(self.level)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        level, propagate = self._before
        self._logger.setLevel(level)
        self._logger.propagate = propagate
