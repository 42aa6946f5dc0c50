"""Run many seeds in several processes, and explain one that failed: its plan, as small as possible, and its trace."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final

import msgspec

from herdmaster.simulation.plan.drawing import draw_plan
from herdmaster.simulation.plan.plan import Plan
from herdmaster.simulation.plan.shrink import Shrinker
from herdmaster.simulation.world.world import Result, World

_SEEDS_PER_CHUNK: Final = 10
_TRACE_LINES: Final = 60
_HELD_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM}


class FailedSeed(msgspec.Struct, frozen=True):
    seed: int
    failure: str


class Tally(msgspec.Struct):
    """The results of some seeds. `virtual_seconds` passed in the worlds, `seconds` in reality."""

    start: int
    seeds: int = 0
    transactions: int = 0
    executions: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict)
    """The number of faults by kind."""
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    failed: list[FailedSeed] = msgspec.field(default_factory=list)
    story: str | None = None
    """The file with the trace of the first failure."""

    def add(self, other: Tally) -> None:
        self.seeds += other.seeds
        self.transactions += other.transactions
        self.executions += other.executions
        self.virtual_seconds += other.virtual_seconds
        self.failed += other.failed
        self.count_faults(other.faults)

    def count_faults(self, counts: dict[str, int]) -> None:
        for kind, count in counts.items():
            self.faults[kind] = self.faults.get(kind, 0) + count

    def __str__(self) -> str:
        rate = max(self.seconds, 1e-9)
        return (
            f"{self.seeds} seeds in {self.seconds:.1f} s ({self.seeds / rate:.1f} seeds/s, "
            f"{self.transactions / rate:.0f} transactions/s): {self.transactions} transactions, "
            f"{self.executions} executions, {self.virtual_seconds / 3600:.1f} hours of virtual time, "
            f"{len(self.failed)} failed\n"
            f"{sum(self.faults.values())} faults: "
            + ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items(), key=_by_count))
        )


def _by_count(fault: tuple[str, int]) -> tuple[int, str]:
    return -fault[1], fault[0]


def run_seed(seed: int, *, listen: bool = False) -> Result:
    """Run the world of a seed. With `listen` the trace has what the roles log."""
    return World(draw_plan(seed), listen=listen).run()


def run_chunk(start: int, count: int) -> Tally:
    tally = Tally(start)
    for seed in range(start, start + count):
        result = run_seed(seed)
        tally.seeds += 1
        tally.transactions += result.transactions
        tally.executions += result.executions
        tally.count_faults(result.faults)
        tally.virtual_seconds += result.seconds
        if result.failure is not None:
            tally.failed.append(FailedSeed(seed, result.failure))
    gc.collect()  # worlds are full of reference cycles, and the collector is off while one runs
    return tally


def run_seeds(start: int, count: int, processes: int) -> Iterator[Tally]:
    """Yield one tally per chunk, in the order of the seeds."""
    end = start + count
    chunks = [(first, min(_SEEDS_PER_CHUNK, end - first)) for first in range(start, end, _SEEDS_PER_CHUNK)]
    if processes <= 1:
        yield from (run_chunk(*chunk) for chunk in chunks)
        return
    others = set(multiprocessing.active_children())
    with ExitStack() as stack:
        try:
            yield from _begin(stack, processes, chunks)
        except BaseException:
            # Do not wait for worlds that are still running. The rest of the work fails with the processes.
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


def _begin(stack: ExitStack, processes: int, chunks: list[tuple[int, int]]) -> Iterator[Tally]:
    """Start the processes, which the stack ends. Raises what the handlers of SIGINT and SIGTERM raise.

    These signals are blocked meanwhile: they would interrupt the making of the pool at any place. And Ctrl-C reaches
    every process of a terminal, but only the first handles it.
    """
    resource_tracker.ensure_running()  # its start unblocks these signals
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        context = multiprocessing.get_context("spawn")
        pool = stack.enter_context(ProcessPoolExecutor(processes, context, initializer=_die_quietly))
        # Not `pool.map`: interrupted, it cancels the rest of the work, and the pool prints that it cannot fail it.
        futures = [pool.submit(run_chunk, *chunk) for chunk in chunks]
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_SIGNALS)
    return (future.result() for future in futures)


def _die_quietly() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: BaseProcess) -> None:
    """Exit when the parent is gone: a pool process holds both ends of its queue, and would wait for work for ever."""
    parent.join()
    os._exit(1)


def default_processes() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def simulate(start: int, count: int, *, processes: int, heard: Callable[[Tally, Tally], None]) -> Tally:
    """Run the seeds. `heard` is called with the tally of each chunk, and with the total so far."""
    began = time.monotonic()
    total = Tally(start)
    for tally in run_seeds(start, count, processes):
        total.add(tally)
        total.seconds = time.monotonic() - began
        heard(tally, total)
    return total


def explain(seed: int, folder: Path, say: Callable[[str], None]) -> Tally:
    """Run one seed. If it fails, shrink its plan, print the trace, and write the trace to a file in `folder`."""
    began = time.monotonic()
    plan = draw_plan(seed)
    result = World(plan, listen=True).run()
    tally = Tally(seed, 1, result.transactions, result.executions, result.faults, result.seconds)
    tally.seconds = time.monotonic() - began
    if result.failure is None:
        say(f"seed {seed}: all held in {result.transactions} transactions, {result.seconds:.0f} s of virtual time")
        return tally
    tally.failed.append(FailedSeed(seed, result.failure))
    say(f"seed {seed} FAILED: {result.failure}")
    say(f"looking for a smaller plan that fails so (of {len(plan.faults)} faults, {len(plan.jobs)} tasks) ...")
    shrinker = Shrinker(plan, result.failure, lambda smaller: World(smaller).run().failure)
    result = World(shrinker.shrink(), listen=True).run()
    lines = trace_lines(shrinker.plan, result)
    path = folder / f"simulation-{seed}.txt"
    path.write_text("\n".join(lines) + "\n")
    tally.story = str(path)
    say("\n".join(lines if len(lines) <= 2 * _TRACE_LINES else [*lines[:_TRACE_LINES], "...", *lines[-_TRACE_LINES:]]))
    say(f"the whole story: {path}")
    return tally


def trace_lines(plan: Plan, result: Result) -> list[str]:
    """Return the lines of a heading and of the trace."""
    heading = [f"seed {plan.seed}: {result.failure or 'all held'}", "", f"{len(plan.programs)} programs:"]
    heading += [f"  {each.name}{' (reference)' if each.reference else ''}" for each in plan.programs]
    heading += ["", f"{len(plan.faults)} faults:", *(f"  {fault}" for fault in plan.faults)]
    heading += ["", f"{len(plan.jobs)} tasks:"]
    heading += [f"  {job.index} by {job.client} at {job.at:.3f} s: {job.code} {job.seconds:.3f} s" for job in plan.jobs]
    return [*heading, "", *result.trace.lines()]
