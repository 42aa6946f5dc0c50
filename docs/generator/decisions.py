"""Write the index of `docs/decisions`, from the title, the date and the status of each decision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "decisions"

_HEAD = """# Decisions

One decision a file, with its date, status, context, decision and consequences. A decision that no longer holds keeps
its number and names its successor. `make pages` writes this index.

| | decision | date | status |
|---|---|---|---|
"""
_FORM = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\n- Date: (?P<date>\d{4}-\d\d-\d\d)\n- Status: (?P<status>.+)\n\n"
    r"## Context\n\n(.|\n)+\n\n## Decision\n\n(.|\n)+\n\n## Consequences\n\n(.|\n)+\n"
)


class Decision(NamedTuple):
    number: int
    title: str
    date: str
    status: str
    file: str


def read() -> list[Decision]:
    """All decisions by their numbers. Raises ValueError for a file that does not have the form of a decision."""
    return sorted(_read(path) for path in FOLDER.glob("0*.md"))


def write() -> str:
    decisions = read()
    rows = [f"| {each.number} | [{each.title}]({each.file}) | {each.date} | {each.status} |" for each in decisions]
    tree = [each.file.removesuffix(".md") for each in decisions]
    return _HEAD + "\n".join([*rows, "", "```{toctree}", ":hidden:", "", *tree, "```"]) + "\n"


def _read(path: Path) -> Decision:
    found = _FORM.fullmatch(path.read_text())
    if found is None or not path.name.startswith(f"{int(found['number']):04}-"):
        raise ValueError(f"{path} does not have the form of a decision: number, date, status and three sections")
    return Decision(int(found["number"]), found["title"], found["date"], found["status"], path.name)
