"""Mutants that no test can tell from the original, by the list in `equivalent.toml`, each with its reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LIST: Final = Path(__file__).with_name("equivalent.toml")


@dataclass(frozen=True, slots=True)
class Equivalent:
    path: str
    diff: str
    reason: str


class Equivalents:
    def __init__(self, entries: list[Equivalent]) -> None:
        self._reasons = {(entry.path, _plain(entry.diff)): entry.reason for entry in entries}
        self.entries = entries

    def reason(self, path: str, diff: str) -> str | None:
        """Return why this change changes nothing, or None where the list does not say so."""
        return self._reasons.get((path, _plain(diff)))

    def outdated(self, root: Path) -> list[Equivalent]:
        """Return the entries whose original lines are not in their modules any more."""
        return [entry for entry in self.entries if not _stands(root / entry.path, entry.diff)]


def load(path: Path = LIST) -> Equivalents:
    entries = tomllib.loads(path.read_text("utf-8")).get("equivalent", [])
    return Equivalents([Equivalent(entry["path"], entry["diff"], entry["reason"]) for entry in entries])


def _plain(diff: str) -> tuple[str, ...]:
    """Without indentation, which moves with the code around."""
    return tuple(line[:1] + line[1:].strip() for line in diff.strip().splitlines())


def _stands(path: Path, diff: str) -> bool:
    if not path.exists():
        return False
    lines = {line.strip() for line in path.read_text("utf-8").splitlines()}
    return all(line[1:] in lines for line in _plain(diff) if line.startswith("-"))
