"""Code of tasks that saves a result with `once`, in virtual time: it waits for the save without a thread."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from herdmaster.errors import HerdError, NotSaved
from herdmaster.running.current import Running
from herdmaster.simulation.checks.once import NAME, OnceCheck
from herdmaster.simulation.world.process import Process

Wait = Callable[[Callable[[bool], None]], None]
"""Calls its argument once, when the code has what it waits for: with False if it does not go on."""


class OnceCode:
    """Saves the results of runs."""

    def __init__(self, check: OnceCheck) -> None:
        self._check = check

    def run(self, process: Process, worker: str, running: Running) -> Wait | None:
        """Run the part of the code up to the save. Return the wait for that, or None if the result was saved before."""
        saved = running.saved.get(NAME)
        if saved is not None:
            self._check.went_on(process.name, worker, running.name, bytes(saved))
            return None
        result = self._check.called(process.name, running.name)

        def wait(go_on: Callable[[bool], None]) -> None:
            def answered(answer: msgspec.Raw | HerdError) -> None:
                if not isinstance(answer, HerdError):
                    self._check.went_on(process.name, worker, running.name, bytes(answer))
                go_on(not isinstance(answer, HerdError))

            try:
                running.save(NAME, result, answered)
            except NotSaved:
                go_on(False)

        return wait
