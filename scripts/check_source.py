"""Check what ruff and mypy do not: the sizes of files and functions, and attributes that are never read.

Usage: python scripts/check_source.py [FOLDER]

Print a line for each fault under FOLDER (src), and exit with status 1 if there is one. This is a program of its own and
no test: CPython 3.11 can fail to make an AST in a process with other threads (python/cpython#106905).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

FILE_LINES = 400
FUNCTION_LINES = 40
LONGER = {
    "src/herdmaster/api/io_thread.py": (409, "to be split with its new name"),
    "src/herdmaster/zookeeper/server/tcp.py:__init__": (41, "it wires the server's parts, a line each"),
}
"""Exceptions: a file, or FILE:FUNCTION, with the lines that it may have and the reason."""

KEEPS_ALIVE = {"_main", "_last"}
"""Attributes that hold an asyncio task, because the event loop has only a weak reference to it."""
OF_THE_BASE_CLASS = {"_scheduled", "_source_traceback", "_repr", "_waiters"}
"""Attributes that classes of the standard library read."""


class Attributes(ast.NodeVisitor):
    """The names that are written on `self`, each with a place, and the names that are read on any object."""

    def __init__(self) -> None:
        self.written: dict[str, str] = {}
        self.read: set[str] = set()
        self.place = ""

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read.add(node.attr)
        elif isinstance(node.value, ast.Name) and node.value.id == "self":
            self.written.setdefault(node.attr, f"{self.place}:{node.lineno}")
        self.generic_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.read.update(node.kwd_attrs)
        self.generic_visit(node)


def _is_read_outside(name: str) -> bool:
    """Say whether a test or an example reads a public attribute: it may exist for users alone."""
    files = (file for folder in ("tests", "examples") for file in (ROOT / folder).rglob("*.py"))
    return not name.startswith("_") and any(f".{name}" in file.read_text() for file in files)


def _unread(attributes: Attributes) -> Iterator[str]:
    for name, place in attributes.written.items():
        if name not in attributes.read | KEEPS_ALIVE | OF_THE_BASE_CLASS and not _is_read_outside(name):
            yield f"{place}: the attribute {name} is written and never read"


def _too_long(place: str, lines: int, limit: int) -> Iterator[str]:
    limit, _reason = LONGER.get(place, (limit, ""))
    if lines > limit:
        yield f"{place}: {lines} lines, the limit is {limit}: split it by what it does"


def _functions(tree: ast.Module) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _faults(folder: Path) -> Iterator[str]:
    attributes = Attributes()
    for file in sorted(folder.rglob("*.py")):
        attributes.place = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
        text = file.read_text()
        tree = ast.parse(text)
        attributes.visit(tree)
        yield from _too_long(attributes.place, text.count("\n"), FILE_LINES)
        for function in _functions(tree):
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            yield from _too_long(f"{attributes.place}:{function.name}", lines, FUNCTION_LINES)
    yield from _unread(attributes)


def main(arguments: list[str]) -> int:
    faults = list(_faults(Path(arguments[0]).resolve() if arguments else ROOT / "src"))
    print("\n".join(faults) if faults else "Sizes and attributes: no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
