"""`python -m docs.generator` writes the pages and pictures that derive from the code: `make pages`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.generator import decisions, files, layers, life, rights, states, submission
from herdmaster.core.table import as_markdown

DOCS = Path(__file__).resolve().parents[1]

PAGES: dict[str, Callable[[], str]] = {
    "decisions/index.md": decisions.write,
    "files.md": files.write,
    "pictures/layers.svg": layers.draw,
    "pictures/states.svg": states.draw,
    "pictures/submission.svg": submission.draw,
    "security.md": rights.write,
}
"""Pages that derive from the code, or from other pages, below `docs/`."""


def main() -> None:
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
    (DOCS / "life-of-a-task.md").write_text(life.write(life.common(life.trace())))
    page = DOCS / "transitions.md"
    head, _, _ = page.read_text().partition("\n| transition |")
    page.write_text(f"{head}\n{as_markdown()}")


if __name__ == "__main__":
    main()
