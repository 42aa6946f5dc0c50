"""The command: `python -m mutation`."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import queue
import random
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from mutation import equivalent, reach, recorder, report, sample, tree
from mutation.reach import Recorded
from mutation.trial import Ending, Limits, Trial, in_stages

_TRIALS: Final = tree.BUILD / "trials"
# These reach no line, but read constants and defaults.
_PINNED: Final = tuple(
    Recorded(f"tests/{name}.py", 1.0, is_long=False) for name in ("docs/test_limits", "test_pinned_values")
)
_ENOUGH: Final = 10  # tests
_NICENESS: Final = 10  # other work on the machine comes first


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutation", description="Do the tests notice faults?")
    parser.add_argument("--sample", type=int, default=200, metavar="N", help="how many mutants (200)")
    parser.add_argument("--start", type=int, metavar="SEED", help="what they are drawn by; drawn and printed if absent")
    parser.add_argument("--only", action="append", metavar="PATH", help="modules below this path only; may be repeated")
    parser.add_argument("--seeds", type=int, default=0, metavar="N", help="then this many simulated worlds (0)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="mutants at a time (2)")
    parser.add_argument("--for", type=float, dest="seconds", metavar="SECONDS", help="stop then; run again to go on")
    parser.add_argument("--again", action="store_true", help="try survivors again")
    records = parser.add_mutually_exclusive_group()
    records.add_argument("--record", action="store_true", help="record anew which tests reach which lines")
    records.add_argument("--as-recorded", action="store_true", help="do not record tests that have changed since")
    parser.add_argument("--json", metavar="FILE", help="write figures and survivors there too")
    return parser.parse_args(arguments)


class Run:
    """One sample, judged by a few threads with a copy of the tree each."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self._options = options
        self._limits = Limits(seeds=options.seeds)
        self._equivalents = equivalent.load()
        self._end = time.monotonic() + options.seconds if options.seconds else float("inf")
        if not options.as_recorded:
            left = recorder.record(anew=options.record, processes=options.processes, seconds=options.seconds)
            print(f"{left} files of tests are not recorded yet" if left else "all tests are recorded", flush=True)
        self._reach = reach.load()
        self._known = report.Results(tree.BUILD / f"sample-{seed}.jsonl")
        self._waiting: queue.SimpleQueue[sample.Mutant] = queue.SimpleQueue()
        self._lock = threading.Lock()
        paths = [path for path in tree.modules() if not options.only or path.startswith(tuple(options.only))]
        kept = tree.BUILD / f"sample-{seed}.drawn.json"
        self._mutants = sample.drawn_before(kept, tree.ROOT, paths, options.sample, seed)

    def work(self) -> list[report.Result]:
        """Judge what has not been judged yet, then return all results, in the order of the sample."""
        for mutant in self._mutants:
            known = self._known.of(mutant.path, mutant.diff, mutant.line)
            reason = self._equivalents.reason(mutant.path, mutant.diff)
            if reason is not None:
                if known is None or known.state != "equivalent":
                    self._add(mutant, Ending("equivalent", reason), 0.0)
            elif known is None or (known.state == "survived" and self._options.again):
                self._waiting.put(mutant)
        self._judge_all()
        found = (self._known.of(mutant.path, mutant.diff, mutant.line) for mutant in self._mutants)
        return [result for result in found if result is not None]

    def _judge_all(self) -> None:
        shutil.rmtree(_TRIALS, ignore_errors=True)  # of a run that was killed
        trials = [Trial(_TRIALS / str(number)) for number in range(self._options.processes)]
        threads = [threading.Thread(target=self._judge, args=(trial,), daemon=True) for trial in trials]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            self._end = 0.0
            for trial in trials:
                trial.end()
            shutil.rmtree(_TRIALS, ignore_errors=True)

    def _judge(self, trial: Trial) -> None:
        tree.copy_to(trial.copy)
        while time.monotonic() < self._end:
            try:
                mutant = self._waiting.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            with self._lock:
                tests = self._tests(mutant)
            stages = in_stages(tests, mutant.path, self._limits)
            ending = trial.judge(mutant.path, mutant.code, stages, self._limits)
            self._add(mutant, ending, time.monotonic() - began)

    def _tests(self, mutant: sample.Mutant) -> list[reach.Recorded]:
        """Return the tests that reach the change. If they are few, add those that reach its function, then its module,
        then all of its folder: what a killed process has reached is not recorded."""
        around = [mutant.statement] if mutant.function is None else [mutant.statement, mutant.function]
        everything = range(1, mutant.source.count("\n") + 2)
        tests = {test.name: test for test in _PINNED if mutant.function is None}
        for lines in (*(range(each.first, each.last + 1) for each in around), everything):
            # What a module does when it is imported is reached by the first test of a process, and by all others.
            if mutant.function is None and lines is not everything:
                continue
            found = self._reach.reaching(mutant.path, mutant.source, lines)
            tests = {**{test.name: test for test in found}, **tests}
            if len(tests) >= _ENOUGH:
                return list(tests.values())
        return list({**{test.name: test for test in self._reach.near(mutant.path)}, **tests}.values())

    def _add(self, mutant: sample.Mutant, ending: Ending, seconds: float) -> None:
        place = mutant.path, mutant.line, mutant.kind, mutant.diff
        result = report.Result(*place, ending.state, ending.by, ending.tests, round(seconds, 1))
        with self._lock:
            self._known.add(result)
            print(f"{result.state:10} {result.path}:{result.line} {result.by} ({result.seconds} s)", flush=True)


def main() -> int:
    options = parse()
    seed = options.start if options.start is not None else random.SystemRandom().randrange(2**31)
    print(f"seed {seed}", flush=True)
    for each in (signal.SIGINT, signal.SIGTERM):  # a shell starts what runs in its background with Ctrl-C ignored
        signal.signal(each, signal.default_int_handler)
    os.nice(_NICENESS)
    tree.BUILD.mkdir(parents=True, exist_ok=True)
    for entry in equivalent.load().outdated(tree.ROOT):
        print(f"equivalent.toml is out of date: {entry.path}: {entry.diff!r}", flush=True)
    lock = (tree.BUILD / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another run works in build/mutants", file=sys.stderr)
        return 2
    try:
        results = Run(options, seed).work()
    except KeyboardInterrupt:
        print(f"interrupted; START={seed} goes on", flush=True)
        return 130
    report.write(results, seed, options.sample, sys.stdout)
    if options.json:
        told = report.summary(results, seed, options.sample)
        Path(options.json).write_text(json.dumps(told, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
