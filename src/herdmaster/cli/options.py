"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])  # what click decorates may return anything


def check_seconds(_ctx: click.Context, _param: click.Parameter, value: float) -> float:
    """Check that an option is above zero and at most a day: ZooKeeper has 32 bits of milliseconds for a timeout."""
    if not 0.0 < value <= _LONGEST:
        raise click.BadParameter(f"{value:g} is not between 0 and {_LONGEST:.0f} seconds.")
    return value


def check_age(_ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Check how long something is kept."""
    if not _SHORTEST_AGE <= value <= _LONGEST_AGE:
        raise click.BadParameter(f"{value:g} seconds is not from {_SHORTEST_AGE:g} s to 365 days.", param=param)
    return value


class Duration(click.ParamType[float]):
    """A time in seconds, written as `90`, `90s`, `5m`, `2h` or `7d`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _duration(str(value))
        if match is None:
            self.fail(f"{value!r} is not a duration, such as 90s, 5m, 2h or 7d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


class PastDuration(Duration):
    """A time before now: a duration above zero."""

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = super().convert(value, param, ctx)
        if seconds == 0:
            self.fail(f"{value!r} is no time at all: give one above 0, such as 15m", param, ctx)
        return seconds


class Choosing(click.ParamType[str]):
    """A name that chooses. An empty one, as an unset variable of a shell gives, would choose nothing in silence."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty: name one, or leave the option out", param, ctx)
        return str(value)


class Decorator(Protocol):
    """A function that adds options to a command."""

    def __call__(self, command: C, /) -> C: ...


_LONGEST: Final = 24 * 3600.0
_SHORTEST_AGE: Final = 1.0
_LONGEST_AGE: Final = 365 * 24 * 3600.0
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_duration = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)").fullmatch
_NAMED_HOSTS: Final = "herdmaster.hosts"
LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")


def hosts_argument(command: C) -> C:
    """Add HOSTS as an argument, and `--zookeeper HOSTS` as the other commands have it."""

    def prefer_option(ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
        named: str | None = ctx.meta.get(_NAMED_HOSTS)
        if value is not None and named is not None:
            raise click.UsageError("HOSTS is given twice, once with --zookeeper", ctx)
        return value if named is None else named

    def remember(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        ctx.meta[_NAMED_HOSTS] = value

    named = click.option(
        "--zookeeper", metavar="HOSTS", is_eager=True, expose_value=False, callback=remember, help="The connect string."
    )
    return click.argument("hosts", required=False, callback=prefer_option)(named(command))


def json_option(command: C) -> C:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


def app_option(help_text: str, *, required: bool = False) -> Decorator:
    return click.option("--app", "-A", metavar="MODULE[:ATTR]", required=required, help=help_text)


def import_option(command: C) -> C:
    return click.option(
        "--import",
        "imports",
        multiple=True,
        metavar="MODULE",
        help="Import this module, which registers tasks with the app; may be repeated.",
    )(command)


def zookeeper_option(command: C) -> C:
    return click.option("--zookeeper", "hosts", metavar="HOSTS", help="The connect string.")(command)


def session_timeout_option(command: C) -> C:
    return click.option(
        "--session-timeout",
        type=float,
        callback=check_seconds,
        metavar="SECONDS",
        default=10,
        show_default=True,
        help="How long ZooKeeper waits for a heartbeat before it ends the session of this process.",
    )(command)


def connect_timeout_option(default: int) -> Decorator:
    return click.option(
        "--connect-timeout",
        type=float,
        callback=check_seconds,
        metavar="SECONDS",
        default=default,
        show_default=True,
        help="How long to try to reach ZooKeeper at the start.",
    )


def listen_option(command: C) -> C:
    return click.option(
        "--listen",
        metavar="HOST:PORT",
        help="Answer /metrics, /livez, /readyz and /scale there; `:PORT` is on this machine only.",
    )(command)


def log_options(default: str) -> Decorator:
    """Add `--log-level` and `--log-format`, for `herdmaster.cli.logs.configure_logs`."""

    def decorate(command: C) -> C:
        command = click.option(
            "--log-format",
            type=click.Choice(FORMATS),
            default="text",
            show_default=True,
            help="The form of log lines.",
        )(command)
        return click.option(
            "--log-level",
            type=click.Choice(LEVELS, case_sensitive=False),
            default=default,
            show_default=True,
            help="The lowest level that is logged, to stderr.",
        )(command)

    return decorate
