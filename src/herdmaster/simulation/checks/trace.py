"""The trace of a run: what happened, in order. Events are cheap to collect, and formatted only when read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from herdmaster.simulation.checks.effects import Effects, describe


class Trace:
    """`now` returns the time of the world in seconds, `actor` the name of the process whose code runs."""

    def __init__(self, now: Callable[[], float], actor: Callable[[], str]) -> None:
        self._now = now
        self.actor = actor
        self._events: list[tuple[float, str, str | Effects, tuple[object, ...]]] = []

    def add(self, actor: str, text: str, *args: object) -> None:
        """Add an event. `text` is a `%` format; the arguments must not change afterwards."""
        self._events.append((self._now(), actor, text, args))

    def add_effects(self, actor: str, effects: Effects) -> None:
        self._events.append((self._now(), actor, effects, ()))

    def events(self) -> Iterator[tuple[float, str, str]]:
        """Yield the time, the actor and the text of each event."""
        for now, actor, event, args in self._events:
            if isinstance(event, Effects):
                text = f"{describe(event)} [zxid {event.zxid & 0xFFFFFFFF:x}, session {event.session_id:x}]"
            else:
                text = event % args if args else event
            yield now, actor, text

    def lines(self) -> list[str]:
        return [f"{now:11.6f}  {actor:<14} {text}" for now, actor, text in self.events()]
