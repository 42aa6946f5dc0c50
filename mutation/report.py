"""What was found: kept line by line, so that a run that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO


@dataclass(frozen=True, slots=True)
class Result:
    path: str
    line: int
    kind: str
    diff: str
    state: str  # killed, timeout, survived or equivalent
    by: str  # the test that failed, or why the mutant is equivalent
    tests: int  # that reach the line and were to run
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        return self.path, self.diff, self.line


class Results:
    """The results of one sample, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        self._known = {result.key: result for result in (Result(**json.loads(line)) for line in lines)}

    def of(self, path: str, diff: str, line: int) -> Result | None:
        return self._known.get((path, diff, line))

    def add(self, result: Result) -> None:
        self._known[result.key] = result
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def summary(results: list[Result], seed: int, sample: int) -> dict[str, object]:
    """Return the figures and the survivors. A mutant that runs into the time limit is noticed too."""
    counts = Counter(result.state for result in results)
    judged = len(results) - counts["equivalent"]
    noticed = counts["killed"] + counts["timeout"]
    return {
        "seed": seed,
        "sample": sample,
        "done": len(results),
        **{state: counts[state] for state in ("killed", "timeout", "survived", "equivalent")},
        "share": round(noticed / judged, 4) if judged else None,
        "survivors": [asdict(result) for result in results if result.state == "survived"],
    }


def write(results: list[Result], seed: int, sample: int, out: TextIO) -> None:
    """Write the survivors, a diff each, and the figures."""
    for result in results:
        if result.state == "survived":
            reached = f"{result.tests} tests" if result.tests else "no test reaches it"
            out.write(f"\nsurvived: {result.path}:{result.line} ({result.kind}; {reached})\n{result.diff}\n")
    told = summary(results, seed, sample)
    share = told["share"]
    out.write(
        f"\nseed {seed}: {told['done']} of {sample} mutants: {told['killed']} killed, {told['timeout']} timed out, "
        f"{told['survived']} survived, {told['equivalent']} equivalent by the list; "
        f"{'nothing judged' if not isinstance(share, float) else f'{share:.1%} noticed'}\n"
    )
