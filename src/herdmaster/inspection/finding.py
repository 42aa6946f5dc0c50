"""A finding: one thing that keeps tasks from running, or may soon."""

from __future__ import annotations

import enum

import msgspec


class Severity(enum.StrEnum):
    """How bad a finding is. `critical`: tasks wait, or cannot be submitted, until someone acts. `warning`: tasks wait
    and may go on by themselves, the system would not survive the next fault, or something is not safe. `note`: good to
    know."""

    CRITICAL = "critical"
    WARNING = "warning"
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True):
    """One finding: a word for programs, what is the case, and what to do."""

    code: str
    severity: Severity
    text: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.text}: {self.do}" if self.do else self.text


def critical(code: str, text: str, do: str = "") -> Finding:
    return Finding(code, Severity.CRITICAL, text, do)


def warning(code: str, text: str, do: str = "") -> Finding:
    return Finding(code, Severity.WARNING, text, do)


def note(code: str, text: str, do: str = "") -> Finding:
    return Finding(code, Severity.NOTE, text, do)


def span(milliseconds: int) -> str:
    """Return a duration as `12s`, `5m`, `3h` or `2d`."""
    seconds = max(0, milliseconds) // 1000
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
