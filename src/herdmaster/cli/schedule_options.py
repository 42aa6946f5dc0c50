"""The options that say when a schedule is due."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import click

from herdmaster.cli.options import C, Decorator, Duration


class Instant(click.ParamType[datetime]):
    """A time, as ISO 8601 writes it. Without an offset it is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time, such as 2026-11-28T02:30 or 2026-11-28T02:30+01:00", param, ctx)
        return found if found.utcoffset() is not None else found.replace(tzinfo=UTC)


_WHEN: Final[tuple[Decorator, ...]] = (
    click.option("--cron", metavar="EXPRESSION", help="A cron expression, such as '30 2 * * *'."),
    click.option("--timezone", metavar="ZONE", help="The zone of the expression, such as Europe/Berlin; else UTC."),
    click.option("--every", type=Duration(), metavar="TIME", help="An interval, such as 90s, 5m, 2h or 7d."),
    click.option("--anchor", type=Instant(), metavar="WHEN", help="A time from which intervals are counted."),
    click.option("--time", "times", type=Instant(), multiple=True, metavar="WHEN", help="One time; may be repeated."),
)
_BESIDES: Final[tuple[Decorator, ...]] = (
    click.option("--starts", type=Instant(), metavar="WHEN", help="The time before which there are no ticks."),
    click.option("--ends", type=Instant(), metavar="WHEN", help="The time after which there are no ticks."),
    click.option("--max-runs", type=click.IntRange(1), metavar="N", help="The number of tasks in all."),
    click.option("--jitter", type=Duration(), metavar="TIME", help="Delay each tick by a part of this time."),
    click.option(
        "--missed",
        type=click.Choice(("latest", "all", "skip")),
        help="Make up for ticks that were missed: the last of them (latest, the default), all, or none (skip).",
    ),
    click.option("--grace", type=Duration(), metavar="TIME", help="Make no task for a tick that is later than this."),
    click.option(
        "--overlap",
        type=click.Choice(("skip", "allow", "wait", "cancel")),
        help="What a tick does while the last task has not ended.  [default: skip]",
    ),
)


def when_options(command: C) -> C:
    """Add the options that say when a schedule is due."""
    return _add(_WHEN, command)


def schedule_options(command: C) -> C:
    """Add all options of a schedule."""
    return _add((*_WHEN, *_BESIDES), command)


def _add(options: tuple[Decorator, ...], command: C) -> C:
    for option in reversed(options):
        command = option(command)
    return command


_CLEARED: Final = (
    *("timezone", "anchor", "starts", "ends", "max-runs", "jitter", "missed", "grace", "overlap"),
    *("queue", "priority", "expires", "timeout", "max-attempts", "key", "key-scope", "key-holds", "keep-outcome"),
    "arguments",
)


def clear_option(command: C) -> C:
    """Add `--clear`, passed as `clear`."""
    return click.option(
        "--clear",
        type=click.Choice(_CLEARED),
        multiple=True,
        help="Take this option back, so that its default applies again; may be repeated.",
    )(command)


def changed_options(options: dict[str, Any], clear: tuple[str, ...]) -> dict[str, Any]:  # as click converts them
    """Return the options that are given, with None for those that are cleared. Raises UsageError for one that is
    both."""
    changed = {**given_options(options), **{name: value for name, value in options.items() if value is not None}}
    for name in clear:
        field = name.replace("-", "_")
        if changed.get(field) is not None:
            given = "ARG" if name == "arguments" else f"--{name}"
            raise click.UsageError(f"{given} and --clear {name} contradict each other: give one of them")
        changed[field] = None
    return changed


def given_options(options: dict[str, Any]) -> dict[str, Any]:  # as click converts them
    """Take the options of a schedule out of `options`, and return those that are given."""
    from herdmaster.api.schedule_options import ScheduleOptions

    taken = {name: options.pop(name, None) for name in ScheduleOptions.__annotations__}
    return {name: value for name, value in taken.items() if value not in (None, ())}
