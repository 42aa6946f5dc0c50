"""Find the links and headings of Markdown documents, and the files of the project that they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(REPOSITORY / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
]

_FENCED = re.compile(r"^( *)(```|:::).*?^\1\2$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")
_INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_NAMED = re.compile(r"\[([^\]\[\n]+)\](?![\[(:])")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def targets(text: str) -> list[str]:
    """The targets of all links and pictures, inline and by reference, in prose only."""
    prose = _CODE.sub("", _FENCED.sub("", text))
    return [*_INLINE.findall(prose), *_REFERENCE.findall(prose)]


def undefined_references(text: str) -> list[str]:
    """Names of references, such as `[ZOOKEEPER-706]` or `[text][name]`, that no line of the document defines."""
    prose = _CODE.sub("", _FENCED.sub("", text))
    defined = set(re.findall(r"^\[([^\]]+)\]:", prose, re.MULTILINE))
    return [name for name in _NAMED.findall(prose) if name not in defined]


def anchors(text: str) -> set[str]:
    """The anchors of all headings as GitHub and MyST make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCED.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 1
        while (name := slug if number == 1 else f"{slug}-{number - 1}") in found:
            number += 1
        found.add(name)
    return found


def named_files(text: str) -> Iterator[str]:
    """Paths of Python files in prose, in backticks: `core/table.py`, `tests/model/stand_in.py`."""
    yield from re.findall(r"`([\w./-]+/[\w-]+\.py)(?:::?[\w.]+)?`", _FENCED.sub("", text))
