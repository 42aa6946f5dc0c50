"""Write the map of files: each module with the first sentence of its docstring."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "herdmaster"

_HEAD = """# Map of files

Every module of `src/herdmaster`, with the first sentence of its docstring. [Architecture](architecture.md) says how
the folders work together, and [the life of a task](life-of-a-task.md) in which order a task visits the files.

`make pages` writes this page, and a test compares it with the code.
"""


def write() -> str:
    folders = sorted({path.parent for path in SOURCE.rglob("*.py")})
    return "\n".join([_HEAD, *(_section(folder) for folder in folders)])


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, or "" if it has none.

    Read as text: CPython 3.11 can fail to make an AST in a process with other threads (python/cpython#106905).
    """
    found = re.match(r'"""(.*?)(?:\n\n|""")', path.read_text(), re.DOTALL)
    if found is None:
        return ""
    paragraph = " ".join(found[1].split())
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + dot.rstrip()


def _section(folder: Path) -> str:
    title = folder.relative_to(SOURCE).as_posix()
    lines = [
        f"## {'herdmaster' if title == '.' else title}",
        "",
        first_sentence(folder / "__init__.py"),
        "",
        "| file | what is inside |",
        "|---|---|",
    ]
    rows = [
        f"| `{path.name}` | {_cell(first_sentence(path))} |"
        for path in sorted(folder.glob("*.py"))
        if path.name != "__init__.py"
    ]
    return "\n".join([*lines, *rows]) + "\n" if rows else "\n".join(lines[:3]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
