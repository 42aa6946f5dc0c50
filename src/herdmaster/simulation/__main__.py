"""`python -m herdmaster.simulation`: runs seeds, exits with 1 where one failed."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from herdmaster.simulation.runner import explain, simulate


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m herdmaster.simulation",
        description="Runs the real roles in simulated worlds, in which everything that can go wrong does.",
    )
    parser.add_argument("--seeds", type=int, default=1000, metavar="N", help="how many worlds (default 1000)")
    parser.add_argument("--start", type=int, metavar="S", help="the first seed (default: a random one, printed)")
    parser.add_argument("--seed", type=int, metavar="S", help="only this one, with its story if it fails")
    parser.add_argument("--processes", type=int, metavar="N", help="default: one per core")
    parser.add_argument("--folder", type=Path, default=Path(), help="where stories of failures go (default: here)")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return 0 if explain(options.seed, folder=options.folder) else 1
    if options.seeds < 1:
        parser.error("--seeds has to be at least 1")
    start = options.start if options.start is not None else random.SystemRandom().randrange(1, 10**9)
    held = simulate(start, options.seeds, processes=options.processes, folder=options.folder)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
