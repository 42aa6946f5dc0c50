"""Runs many seeds in several processes, and tells of each that failed: its seed, what is left of its plan when
everything is left out that it does not need, and the story."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.simulation.plan import Plan, draw_plan
from herdmaster.simulation.shrink import Shrinker
from herdmaster.simulation.world import Result, World

_SEEDS_PER_CHUNK: Final = 20
_STORY_LINES: Final = 60


class Tally(msgspec.Struct):
    """What came of some seeds. `failures` are (seed, what failed)."""

    seeds: int = 0
    transactions: int = 0
    executions: int = 0
    virtual_seconds: float = 0.0
    failures: list[tuple[int, str]] = msgspec.field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.transactions += other.transactions
        self.executions += other.executions
        self.virtual_seconds += other.virtual_seconds
        self.failures += other.failures


def run_seed(seed: int, *, listen: bool = False) -> Result:
    """With `listen` the story holds what the roles logged, too."""
    return World(draw_plan(seed), listen=listen).run()


def run_chunk(start: int, count: int) -> Tally:
    tally = Tally()
    for seed in range(start, start + count):
        result = run_seed(seed)
        tally.add(Tally(1, result.transactions, result.executions, result.seconds))
        if result.failure is not None:
            tally.failures.append((seed, result.failure))
    gc.collect()  # worlds are full of circles, and the collector sleeps while one runs
    return tally


def run_seeds(start: int, count: int, processes: int) -> Iterator[Tally]:
    """One tally per chunk, in the order of the seeds."""
    chunks = [
        (first, min(_SEEDS_PER_CHUNK, start + count - first)) for first in range(start, start + count, _SEEDS_PER_CHUNK)
    ]
    if processes <= 1:
        yield from (run_chunk(*chunk) for chunk in chunks)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(run_chunk, *zip(*chunks, strict=True))


def default_processes() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def simulate(
    start: int, count: int, *, processes: int | None = None, folder: Path = Path(), say: Callable[[str], None] = print
) -> bool:
    """Runs the seeds, says how far it is and what it found, and writes the story of a failure into `folder`. False
    where a seed failed."""
    began = time.monotonic()
    total, told = Tally(), 0.0
    say(f"seeds {start} to {start + count - 1}")
    for tally in run_seeds(start, count, processes or default_processes()):
        total.add(tally)
        for seed, failure in tally.failures:
            say(f"seed {seed} FAILED: {failure}")
        if time.monotonic() - told > 10.0 and total.seeds < count:
            told = time.monotonic()
            say(f"{total.seeds} of {count} seeds, {len(total.failures)} failed")
    seconds = time.monotonic() - began
    say(
        f"{total.seeds} seeds in {seconds:.1f} s ({total.seeds / seconds:.1f} seeds/s, "
        f"{total.transactions / seconds:.0f} transactions/s): {total.transactions} transactions, "
        f"{total.executions} executions, {total.virtual_seconds / 3600:.1f} hours of virtual time, "
        f"{len(total.failures)} failed"
    )
    for seed, _ in total.failures[:1]:
        explain(seed, folder=folder, say=say)
    return not total.failures


def explain(seed: int, *, folder: Path = Path(), say: Callable[[str], None] = print) -> bool:
    """Runs one seed and tells its story, of a failure the shortest that was found. False where it failed."""
    plan = draw_plan(seed)
    result = World(plan, listen=True).run()
    if result.failure is None:
        say(f"seed {seed}: all held in {result.transactions} transactions, {result.seconds:.0f} s of virtual time")
        return True
    say(f"seed {seed} FAILED: {result.failure}")
    say(f"looking for a shorter way to that (of {len(plan.faults)} faults, {len(plan.jobs)} tasks) ...")
    shrinker = Shrinker(plan, result.failure)
    result = World(shrinker.shrink(), listen=True).run()
    lines = story_of(shrinker.plan, result)
    path = folder / f"simulation-{seed}.txt"
    path.write_text("\n".join(lines) + "\n")
    say("\n".join(lines if len(lines) <= 2 * _STORY_LINES else [*lines[:_STORY_LINES], "...", *lines[-_STORY_LINES:]]))
    say(f"the whole story: {path}")
    return False


def story_of(plan: Plan, result: Result) -> list[str]:
    """Heading and story, line by line."""
    heading = [f"seed {plan.seed}: {result.failure or 'all held'}", "", f"{len(plan.parts)} processes:"]
    heading += [f"  {part.slot}{' (as the reference)' if part.reference else ''}" for part in plan.parts]
    heading += ["", f"{len(plan.faults)} faults:", *(f"  {fault}" for fault in plan.faults)]
    heading += ["", f"{len(plan.jobs)} tasks:"]
    heading += [f"  {job.index} by {job.client} at {job.at:.3f} s: {job.code} {job.seconds:.3f} s" for job in plan.jobs]
    return [*heading, "", *result.story.lines()]
