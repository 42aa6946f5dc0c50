"""`herd demo`: count words while processes are killed."""

from __future__ import annotations

import math
import signal
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

import click

from herdmaster.cli.failures import Failed, Refused
from herdmaster.cli.help import Command
from herdmaster.cli.options import log_options
from herdmaster.cli.security import security_options

if TYPE_CHECKING:
    from herdmaster.api.security import GivenSecurity
    from herdmaster.cli.demo.counting import Texts
    from herdmaster.cli.demo.play import Report

DOCUMENTATION: Final = Path("/usr/share/doc")
FEWEST_FILES: Final = 100
MOST_FILES: Final = 2000
"""The limit if no folder is named, so that the run is short on every machine."""

ENOUGH_TASKS: Final = 1500
"""The run must be long compared with two session timeouts."""


@click.command(cls=Command)
@click.option("--zookeeper", "hosts", metavar="HOSTS", help="Use a running ensemble, in a new namespace.")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help=f"The folder of the texts.  [default: {DOCUMENTATION}; without texts there, Python's own sources]",
)
@click.option(
    "--repeat",
    type=click.IntRange(1),
    metavar="N",
    help=f"Count each file N times.  [default: enough for {ENOUGH_TASKS:,} tasks]",
)
@security_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@log_options("error")
def demo(
    *,
    hosts: str | None,
    folder: Path | None,
    repeat: int | None,
    security: GivenSecurity,
    as_json: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Count words while processes are killed.

    Starts an embedded ZooKeeper, two masters and two workers, counts the words of many files, kills the primary and
    then a worker in the middle, checks the result against a plain loop, and stops everything.
    """
    from herdmaster.api.security import GivenSecurity, export
    from herdmaster.cli.demo.display import Display
    from herdmaster.cli.demo.play import play
    from herdmaster.cli.demo.stage import own_namespace, own_zookeeper
    from herdmaster.cli.logs import configure_logs
    from herdmaster.zookeeper.client import parse_connect_string

    if hosts is not None:
        parse_connect_string(hosts)
    configure_logs(log_level, log_format)
    texts = find_enough_texts(folder)
    export(GivenSecurity(tls=None, auth=()) if hosts is None else security)  # also for the roles that it starts
    signal.signal(signal.SIGTERM, _end_in_good_order)
    display = Display()
    if hosts is None:
        display.say("starting ZooKeeper, two masters, two workers")
    with own_zookeeper() if hosts is None else own_namespace(hosts) as namespace:
        if hosts is not None:
            display.say(f"starting two masters and two workers on {hosts}")
        report = play(namespace, texts, repeat or math.ceil(ENOUGH_TASKS / len(texts.files)), display)
        display.say("stopping what was started")
    _tell(report, as_json=as_json)


def find_enough_texts(named: Path | None) -> Texts:
    """Return the texts of the named folder, else of one with enough. Raises Refused if there are too few."""
    from herdmaster.cli.demo.counting import Texts, find_sources, find_texts

    folder = named or DOCUMENTATION
    files = find_texts(folder)
    if len(files) >= FEWEST_FILES:
        return Texts(folder, files if named else files[:MOST_FILES])
    if named is None:
        library = Path(sysconfig.get_path("stdlib"))
        sources = find_sources(library)
        if len(sources) >= FEWEST_FILES:
            return Texts(library, sources[:MOST_FILES])
    raise Refused(
        f"{folder} has {len(files)} .txt, .md, README and copyright files, at least {FEWEST_FILES} are needed: "
        "name a folder with more of them by --folder",
        "herd demo",
    )


def _tell(report: Report, *, as_json: bool) -> None:
    """Print the report. Raises Failed if the result is wrong."""
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(report), indent=2))
    else:
        for line in describe(report):
            click.echo(line)
    if not report.same_as_plain_loop:
        raise Failed("the totals differ from those of a plain loop", "herd demo")


def describe(report: Report) -> Iterator[str]:
    """Yield the lines of the report."""
    from herdmaster.cli.demo.play import times

    yield ""
    for each in report.most_frequent:
        yield f"{each.count:>12,}  {each.word}"
    yield ""
    yield (
        f"{report.words:,} words of {report.files:,} files, {times(report.repeat)}: {report.tasks:,} tasks "
        f"in {report.seconds:.1f} s, {report.tasks_per_second:,.0f} tasks per second"
    )
    yield (
        f"The primary was killed after {report.primary_killed_after:,} results, its backup was primary "
        f"{report.takeover:.1f} s later; a worker was killed after {report.worker_killed_after:,}, with about "
        f"{report.assigned_to_killed_worker:,} tasks in its inbox."
    )
    if report.same_as_plain_loop:
        yield "Nothing is missing and nothing was counted twice: the totals are those of a plain loop."
        yield ""
        yield "Try next:"
        yield "  herd dev --app MODULE             all of it for tasks of your own, in one terminal"
        yield "  herd demo --zookeeper HOST:2181   the same on an ensemble of Apache ZooKeeper"


def _end_in_good_order(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
