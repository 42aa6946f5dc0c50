"""Attributes of Herdmaster's own classes: what is written is read somewhere, or it is a slip of the pen."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]

KEEPS_ALIVE = {"_main", "_last"}
"""They hold an asyncio task, of which the event loop has only a weak reference."""
OF_THE_BASE_CLASS = {"_scheduled", "_source_traceback", "_repr", "_waiters"}
"""Attributes of classes of the standard library, which read them."""


class Attributes(ast.NodeVisitor):
    """Names that are written on `self`, with a place each, and names that are read on anything."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}
        self.read: set[str] = set()
        self._file = ""

    def add(self, files: Iterable[Path]) -> Attributes:
        for file in files:
            self._file = str(file)
            self.visit(ast.parse(file.read_text()))
        return self

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read.add(node.attr)
        elif isinstance(node.value, ast.Name) and node.value.id == "self":
            self.written.setdefault(node.attr, f"{self._file}:{node.lineno}")
        self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.read.update(node.kwd_attrs)
        self.generic_visit(node)

    def never_read(self) -> dict[str, str]:
        return {name: place for name, place in self.written.items() if name not in self.read}


def _is_read_outside(name: str) -> bool:
    """Whether a program or a test reads it: what is public may be there for them alone."""
    files = (file for folder in ("tests", "examples") for file in (ROOT / folder).rglob("*.py"))
    return not name.startswith("_") and any(f".{name}" in file.read_text() for file in files)


def test_every_attribute_that_is_written_is_read() -> None:
    unread = Attributes().add((ROOT / "src").rglob("*.py")).never_read()
    excused = KEEPS_ALIVE | OF_THE_BASE_CLASS

    assert {name: place for name, place in unread.items() if name not in excused and not _is_read_outside(name)} == {}


def test_an_attribute_that_is_only_written_is_found(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("class C:\n    def f(self):\n        self._is_missing = True\n        self.a = self.b = self.a\n")

    assert Attributes().add([file]).never_read() == {"_is_missing": f"{file}:3", "b": f"{file}:4"}
