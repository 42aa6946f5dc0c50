"""Check the chunks of an `each`: each element is run by exactly one chunk that is committed, and all in their order; a
chunk fails with what its code says of its elements.

Part of the check of flows. `ran` is told by the code of the chunks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from herdmaster.core.payload import Call, decode_call

_of_elements: Final = re.compile(r" \(element (\d+)[^;]*; (\d+) of the (\d+) items of the chunk failed\)$")


class ChunkCheck:
    """`report` is called with each violation."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._runs: dict[tuple[str, str], list[tuple[int, bool]]] = {}  # by worker and task: position, has failed
        self._covered: dict[tuple[str, str], dict[int, str]] = {}  # by flow and `each`: which step ran an element

    def forget(self, flow: str) -> None:
        """Another flow gets the name."""
        self._covered = {key: found for key, found in self._covered.items() if key[0] != flow}

    def ran(self, worker: str, task: str, item: int, position: int, *, has_failed: bool) -> None:
        """Note that the code has run for an item of a chunk. `position` is that of its element in the list."""
        if item == 0:
            self._runs[worker, task] = []
        self._runs.setdefault((worker, task), []).append((position, has_failed))

    def check_done(self, flow: str, step: str, worker: str, task: str, payload: bytes) -> None:
        """Check a chunk that is done. `payload` is that of its task."""
        positions = _positions(decode_call(payload))
        if self._runs.get((worker, task)) != [(position, False) for position in positions]:
            ran = self._runs.get((worker, task), "nothing")
            self._report(f"ended chunk {step} of {flow}, which has {positions}, and its code has run for {ran}")
        covered = self._covered.setdefault((flow, step.partition(".")[0]), {})
        for position in positions:
            other = covered.setdefault(position, step)
            if other != step:
                self._report(f"ended chunk {step} of {flow} with element {position}, which is in chunk {other}")

    def check_failed(self, flow: str, step: str, worker: str, task: str, payload: bytes) -> None:
        """Check a chunk whose code has failed. `payload` is what is kept of it, with its error."""
        call = decode_call(payload)
        found = None if call.error is None else _of_elements.search(call.error.message)
        runs = self._runs.get((worker, task), [])
        failed = [position for position, has_failed in runs if has_failed]
        right = (failed[0], len(failed), len(_positions(call))) if failed else None
        said = None if found is None else tuple(map(int, found.groups()))
        if said != right or [position for position, _ in runs] != list(_positions(call)):
            self._report(f"failed chunk {step} of {flow} with {call.error}, and its code has run so: {runs}")

    def check_all(self, flow: str, each: str, count: int, steps: Iterable[str]) -> None:
        """Check that all elements of an `each` of a flow that is done were run, each by one of its steps."""
        covered = self._covered.get((flow, each), {})
        if sorted(covered) != list(range(count)) or set(covered.values()) != set(steps):
            self._report(f"ended {flow}, and of the {count} elements of step {each} its chunks have run {covered}")


def _positions(call: Call) -> range:
    """Return the positions of the elements of a chunk."""
    assert call.flow is not None
    elements = msgspec.json.decode(call.args)[0]
    return range(call.flow.first, call.flow.first + len(elements))
