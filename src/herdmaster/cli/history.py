"""`herd history` and `herd stats`: what has ended, and what failed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import click

from herdmaster.cli.help import Command
from herdmaster.cli.options import Choosing, Decorator, PastDuration, json_option
from herdmaster.cli.printing import log_of, say, say_json
from herdmaster.cli.session import Session, session_options

if TYPE_CHECKING:
    from herdmaster.core.history import FailureRecord
    from herdmaster.inspection.history import By, History, HistoryFilter, Quantiles, Statistics

_WATCH_SECONDS: Final = 5.0
_COLUMNS: Final = (
    "tasks/min", "done", "failed", "rate", "retried", "cancelled", "wait p50", "p95", "p99", "run p50", "p95", "p99",
)  # fmt: skip


def _since_option(default: str) -> Decorator:
    return click.option(
        "--since", type=PastDuration(), default=default, show_default=True, help="How far back, such as 15m, 2h or 1d."
    )


_call_option: Final = click.option("--call", metavar="CALL", help="Of this call only: MODULE:NAME, or NAME alone.")
_queue_option: Final = click.option("--queue", type=Choosing(), metavar="QUEUE", help="Of this queue only.")


@click.command(cls=Command)
@_since_option("1h")
@click.option("--failed", is_flag=True, help="Only tasks that have ended, without attempts that are retried.")
@_call_option
@click.option("--error", type=Choosing(), metavar="TYPE", help="With this error only: its full name, or its last part.")
@_queue_option
@click.option("--schedule", type=Choosing(), metavar="NAME", help="Of the tasks of this schedule only.")
@click.option("--flow", type=Choosing(), metavar="FLOW", help="Of the steps of this flow only.")
@click.option("--by", type=click.Choice(["error", "call"]), help="One line for each error, or call, with its count.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest so many.")
@json_option
@session_options(positional=True)
def history(
    *,
    since: float,
    failed: bool,
    call: str | None,
    error: str | None,
    queue: str | None,
    schedule: str | None,
    flow: str | None,
    by: str | None,
    limit: int,
    as_json: bool,
    session: Session,
) -> None:
    """Show what failed: when, where and why.

    Workers write what has ended every few seconds. It is a log and no promise: a worker that is killed takes its last
    seconds along. It is kept for 24 hours, or less if it grows too large (`herd master --history-age`).
    """
    from herdmaster.core.history import EndState
    from herdmaster.inspection.history import HistoryFilter

    found = _read(session, since, HistoryFilter(call, queue, error, schedule, flow))
    records = [each for each in found.failures if not failed or each.result is not EndState.RETRIED]
    records.sort(key=lambda each: each.ended, reverse=True)
    if by is not None:
        _print_groups(records, by, as_json=as_json)
    else:
        _print_records(records[:limit], as_json=as_json)
        if len(records) > limit and not as_json:
            click.echo(f"and {len(records) - limit} more: raise --limit, or choose with --by error", err=True)
    if not records and not as_json:
        click.echo("nothing failed in this time", err=True)
    if found.unrecorded:
        click.echo(f"{found.unrecorded} failures in this time have no record: `herd stats` counts them", err=True)
    _say_unreadable(found)


@click.command(cls=Command)
@_since_option("15m")
@click.option("--by", type=click.Choice(["call", "queue"]), default="call", show_default=True, help="A line for each.")
@_call_option
@_queue_option
@click.option("--watch", is_flag=True, help="Show it anew every five seconds, until Ctrl-C.")
@json_option
@session_options(positional=True)
def stats(
    *, since: float, by: str, call: str | None, queue: str | None, watch: bool, as_json: bool, session: Session
) -> None:
    """Show how many tasks end and fail, and how long they take.

    A task waits from when it is due until its code begins; the times are of each attempt. Percentiles are exact to 9%.
    """
    from herdmaster.inspection.history import By, HistoryFilter

    only = HistoryFilter(call, queue)
    with contextlib.suppress(KeyboardInterrupt) if watch else contextlib.nullcontext():
        while True:
            found = _read(session, since, only)
            if watch and not as_json:
                click.clear()  # on a terminal only
            _print_statistics(found, By(by), as_json=as_json)
            if not watch:
                return
            time.sleep(_WATCH_SECONDS)


def _read(session: Session, since: float, only: HistoryFilter) -> History:
    from herdmaster.api.past import ask_history

    return session.run(ask_history(since, 0.0, only))


def _say_unreadable(found: History) -> None:
    if found.unreadable:
        click.echo(f"{found.unreadable} batches cannot be read: a later version wrote them", err=True)


# --- history ---------------------------------------------------------------------------------------------------------


def _print_records(records: Iterable[FailureRecord], *, as_json: bool) -> None:
    import msgspec

    for each in records:
        if as_json:
            say_json(msgspec.json.encode(each))
            continue
        place = f" on {each.worker}" if each.worker else ""
        host = f" ({each.host})" if each.host and not each.pid else ""
        ran = f", ran {seconds((each.ended - each.began) / 1000)}" if each.began is not None else ""
        head = f"{instant(each.ended)}  {click.style(each.result, fg='red')}  {each.call or 'raw'}  {each.task}"
        say(head)
        say(f"    {_error(each)}")
        schedule = f" of schedule {each.schedule}" if each.schedule else ""
        flow = f", step {each.step} of {each.flow}" if each.flow else ""
        say(f"    attempt {each.attempt}{schedule}{flow}{ran}{place}{host}")
        if each.host and each.pid:
            say(f"    {log_of(each.host, each.pid)}")


def _error(record: FailureRecord) -> str:
    return f"{record.error}: {record.message}" if record.message else record.error


def _print_groups(records: Sequence[FailureRecord], by: str, *, as_json: bool) -> None:
    import msgspec

    groups: dict[tuple[str, str], list[FailureRecord]] = {}
    for each in records:
        groups.setdefault((each.call, each.error) if by == "error" else (each.call, ""), []).append(each)
    for (call, error), members in sorted(groups.items(), key=lambda item: -len(item[1])):
        newest, oldest = members[0], members[-1]
        if as_json:
            group: dict[str, object] = {"call": call, "count": len(members), "newest": newest}
            say_json(msgspec.json.encode({**group, **({"error": error} if error else {})}))
            continue
        count = click.style(f"{len(members):>6}", bold=True)
        when = f"{instant(oldest.ended)} to {instant(newest.ended)}" if len(members) > 1 else instant(newest.ended)
        say(f"{count}  {call or 'raw'}  {_error(newest)}")
        say(f"        {when}, last {newest.task}")


# --- stats -----------------------------------------------------------------------------------------------------------


def _print_statistics(found: History, by: By, *, as_json: bool) -> None:
    import msgspec

    groups = found.statistics(by)
    trends = _trends(found)
    if as_json:
        for each in [*groups, found.total()]:
            say_json(msgspec.json.encode(each))
        say_json(msgspec.json.encode({"backlog": {queue: list(ends) for queue, ends in trends.items()}}))
        return
    minutes = (found.ends - found.begins) / 60_000
    if not groups:
        click.echo("no task has ended in this time", err=True)
    else:
        rows = [_row(each) for each in groups]
        if len(rows) > 1:
            rows.append(_row(found.total()))
        _print_table([by.value, *_COLUMNS], rows)
        click.echo(f"in the last {seconds(minutes * 60)}")
    for queue, (first, last) in trends.items():
        change = f"{last - first:+d} since {seconds(minutes * 60)} ago" if last != first else "steady"
        say(f"backlog of {queue}: {last} ({change})")
    _say_unreadable(found)


def _trends(found: History) -> dict[str, tuple[int, int]]:
    """Return the first and the last number of waiting tasks of each queue."""
    if not found.backlog:
        return {}
    queues = sorted({queue for sample in found.backlog for queue in sample.queues})
    first, last = found.backlog[0].queues, found.backlog[-1].queues
    return {queue: (first.get(queue, 0), last.get(queue, 0)) for queue in queues}


def _row(each: Statistics) -> list[str]:
    from herdmaster.core.history import EndState

    results = dict(each.results)
    done, retried = results.pop(EndState.DONE, 0), results.pop(EndState.RETRIED, 0)
    cancelled = results.pop(EndState.CANCELLED, 0)
    failed = sum(results.values())
    rate = "-" if each.failure_rate is None else f"{each.failure_rate:.1%}"
    numbers = [f"{each.tasks_per_minute:.1f}", str(done), str(failed), rate, str(retried), str(cancelled)]
    return [each.group or "raw", *numbers, *_times(each.waiting), *_times(each.running)]


def _times(quantiles: Quantiles) -> list[str]:
    return ["-" if each is None else seconds(each) for each in (quantiles.p50, quantiles.p95, quantiles.p99)]


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for number, row in enumerate([head, *rows]):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        line = "  ".join(cells)
        say(click.style(line, bold=True) if number == 0 else line)


def seconds(value: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit, size in (("h", 3600.0), ("m", 60.0)):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.2g} s" if value >= 0.0995 else f"{value * 1000:.2g} ms"


def instant(unix_ms: int) -> str:
    """Return the local time, with the date unless it is today's."""
    when = datetime.fromtimestamp(unix_ms / 1000).astimezone()
    return when.strftime("%H:%M:%S" if when.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S")
