"""`python -m tests.model [--long]` explores the runs and prints their sizes, or the story of a broken promise."""

from __future__ import annotations

import sys
import time

from tests.model.runs import LONG_RUNS, RUNS, line
from tests.model.system import build


def main(arguments: list[str]) -> int:
    broken = 0
    for name, setup in (RUNS | LONG_RUNS if "--long" in arguments else RUNS).items():
        start = time.perf_counter()
        verdict = build(setup).explore()
        sys.stdout.write(f"{line(name, verdict)}, {time.perf_counter() - start:.1f} s\n")
        if verdict.counterexample is not None:
            broken += 1
            sys.stdout.write(f"{verdict.counterexample}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
