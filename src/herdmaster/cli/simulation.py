"""`herd simulate`: run the real roles in simulated worlds."""

from __future__ import annotations

import random
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

import click

from herdmaster.cli.failures import Failed, Refused

if TYPE_CHECKING:
    from herdmaster.simulation.runner import Tally

_CLEAR: Final = "\r\x1b[K"
_MANY: Final = 1000
_LARGEST_START: Final = 10**9


@click.command
@click.option(
    "--seed", type=click.IntRange(0), metavar="N", help="Run only this world, and print its story if it fails."
)
@click.option("--seeds", type=click.IntRange(1), metavar="N", help=f"The number of worlds.  [default: {_MANY}]")
@click.option(
    "--start", type=click.IntRange(0), metavar="S", help="The first seed.  [default: a random one, which is printed]"
)
@click.option(
    "--processes", type=click.IntRange(1, 1024), metavar="P", help="Processes at a time.  [default: one per core]"
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, writable=True, path_type=Path),
    default=".",
    metavar="DIR",
    help="The folder for the story of a failure.  [default: the current one]",
)
@click.option("--night", is_flag=True, help="Tell what schedules do in one night full of faults; --seed chooses it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def simulate(
    *,
    seed: int | None,
    seeds: int | None,
    start: int | None,
    processes: int | None,
    folder: Path,
    night: bool,
    as_json: bool,
) -> None:
    """Run the real roles in simulated worlds.

    Client, server, masters and workers run on virtual time, with a network in memory. The seed decides which faults
    happen. The guarantees are checked after every transaction. Exits with 1 if a world failed.
    """
    if seed is not None and (seeds, start, processes) != (None, None, None):
        raise Refused("--seed runs one world: leave out --seeds, --start and --processes.")
    if night:
        _run_night(_any_seed() if seed is None else seed, as_json=as_json)
        return
    from herdmaster.simulation.runner import explain

    signal.signal(signal.SIGTERM, _end_in_good_order)
    display = _Display(quiet=as_json)
    if seed is None:
        tally = _run_many(seeds or _MANY, start, processes, display)
        if tally.failed:
            tally.story = explain(tally.failed[0].seed, folder, display.say).story
    else:
        tally = explain(seed, folder, display.say)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(tally), indent=2))
    if tally.failed:
        first = tally.failed[0].seed
        raise Failed(f"a guarantee was broken: `herd simulate --seed {first}` repeats it")


def _any_seed() -> int:
    return random.SystemRandom().randrange(1, _LARGEST_START)


def _run_night(seed: int, *, as_json: bool) -> None:
    import msgspec

    from herdmaster.simulation.night import run_night

    found = run_night(seed)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for part in (*found.lines, "", *found.accounts):
            click.echo(str(part))
    if found.failure is not None:
        raise Failed(f"a guarantee was broken: {found.failure}; `herd simulate --night --seed {seed}` repeats it")


def _run_many(seeds: int, start: int | None, processes: int | None, display: _Display) -> Tally:
    from herdmaster.simulation.runner import default_processes, simulate

    first = _any_seed() if start is None else start
    display.say(f"seeds {first} to {first + seeds - 1}")

    def heard(few: Tally, total: Tally) -> None:
        for each in few.failed:
            display.say(f"seed {each.seed} FAILED: {each.failure}")
        display.show(f"{total.seeds} of {seeds} seeds, {len(total.failed)} failed")

    try:
        tally = simulate(first, seeds, processes=processes or default_processes(), heard=heard)
    finally:
        display.show("")
    display.say(str(tally))
    return tally


class _Display:
    """Output of the run: lines on stdout, unless `quiet`, and progress on stderr, if that is a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._lives = sys.stderr.isatty()

    def say(self, text: str) -> None:
        self.show("")
        if not self._quiet:
            click.echo(text)

    def show(self, text: str) -> None:
        if self._lives:
            click.echo(f"{_CLEAR}{text}", nl=False, err=True)


def _end_in_good_order(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
