"""Write the matrix of rights into `docs/security.md`."""

from __future__ import annotations

from pathlib import Path

from herdmaster.core.access import as_markdown

_PAGE = Path(__file__).resolve().parents[1] / "security.md"


def write() -> str:
    """Return the page with the table that the code has."""
    head, _, rest = _PAGE.read_text().partition("\n| znode |")
    _, _, tail = rest.partition("\n\n")
    return f"{head}\n{as_markdown()}\n{tail}"
