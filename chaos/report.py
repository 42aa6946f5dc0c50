"""The rows as a table for people, as JSON for programs, and progress on stderr."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import IO, Final

import click
import msgspec

from chaos.cast import CLIENTS, MASTERS, SERVERS, WORKERS
from chaos.director import Row
from chaos.failover import Takeovers

_MOST_COMPLAINTS: Final = 10
_HEAD: Final = (
    f"{'scenario':<20}{'fault':>8}{'tasks':>7}{'ended':>7}{'lost':>6}{'doubled':>9}{'wrong':>7}{'left':>6}"
    f"{'reruns':>8}{'unknown':>9}{'pause':>8}{'resumed':>9}{'settled':>9}"
)


class Report(msgspec.Struct, frozen=True):
    """One run. Times in seconds; `rate` is tasks per second and client, `seed` that of the storm."""

    session_timeout: float
    tick: float
    rate: float
    seed: int
    cores: int
    load_before: float
    load_after: float
    seconds: float
    rows: list[Row]
    takeovers: list[Takeovers]


class Progress:
    """Lines with the time, on stderr. Deeds are told on a terminal alone, or where `--verbose` asks for them."""

    def __init__(self, *, verbose: bool, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._verbose = verbose or self._stream.isatty()
        self._colour = self._stream.isatty() and not os.environ.get("NO_COLOR")
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        if self._verbose:
            self._write(text)

    def tell(self, row: Row) -> None:
        """A row, when it is complete."""
        text = line(row)
        self._write(text if row.is_good or not self._colour else click.style(text, fg="red"))

    def _write(self, text: str) -> None:
        self._stream.write(f"{time.monotonic() - self._began:7.1f} s  {text}\n")
        self._stream.flush()


def table(report: Report) -> Iterator[str]:
    """Return the lines of the report: versions, a row per scenario, complaints, and the times of takeovers."""
    yield (
        f"{SERVERS} servers, {MASTERS} masters, {WORKERS} workers, {CLIENTS} clients; "
        f"session timeout {report.session_timeout:g} s, tick {report.tick:g} s; "
        f"{report.rate:g} tasks per second and client; seed {report.seed}"
    )
    yield (
        f"{report.cores} cores, load {report.load_before:.1f} before and {report.load_after:.1f} after; "
        f"{report.seconds:.0f} s in all"
    )
    yield from ("", _HEAD)
    for row in report.rows:
        yield line(row)
    for row in report.rows:
        yield from (f"{row.scenario}: {text}" for text in _complaints(row))
    if report.takeovers:
        yield from ("", f"{'signal':<10}{'times':>6}{'min':>10}{'median':>10}{'max':>10}")
        yield from (each.summary for each in report.takeovers)


def line(row: Row) -> str:
    name = f"{row.scenario:<20}"
    if row.skipped is not None:
        return f"{name}  skipped: {row.skipped}"
    found = row.judgement
    if found is None:
        return f"{name}  stuck"
    settled = "stuck" if row.settling is None or row.stuck is not None else f"{row.settling:.1f} s"
    return (
        f"{name}{row.fault:>6.1f} s{found.accepted:>7}{found.outcomes:>7}{len(found.lost):>6}{len(found.doubled):>9}"
        f"{len(found.wrong):>7}{len(found.left):>6}{found.reruns:>8}{found.unknown:>9}{row.pause:>6.1f} s"
        f"{row.resumed:>7.1f} s{settled:>9}"
    )


def _complaints(row: Row) -> Iterator[str]:
    if row.stuck is not None:
        yield row.stuck
    if row.is_slow:
        yield f"no task ended for {row.resumed:.1f} s after all was mended; {row.bar:.1f} s are allowed"
    yield from (f"{text}. That is between the servers, and no fault of Herdmaster's" for text in row.diverged)
    complaints = row.judgement.complaints if row.judgement is not None else []
    yield from complaints[:_MOST_COMPLAINTS]
    if len(complaints) > _MOST_COMPLAINTS:
        yield f"and {len(complaints) - _MOST_COMPLAINTS} more"


def as_json(report: Report) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()
