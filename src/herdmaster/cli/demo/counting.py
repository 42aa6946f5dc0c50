"""The job: how often each word stands in the text files of a folder. One file is one task."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

_WORD: Final = re.compile(r"[a-z]+")
_TEXT_SUFFIXES: Final = (".txt", ".md")
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
_PEEK: Final = 8192


def count_words(path: str) -> dict[str, int]:
    """How often each word, `[a-z]+` of the lower-cased text, stands in a file. Raises OSError."""
    text = Path(path).read_text("utf-8", "replace")
    return Counter(_WORD.findall(text.lower()))


def count_plainly(paths: Iterable[str]) -> Counter[str]:
    """The words of all files, counted one after the other: what the result is checked against."""
    total: Counter[str] = Counter()
    for path in paths:
        total.update(count_words(path))
    return total


def find_texts(folder: Path) -> list[str]:
    """The `.txt`, `.md`, `README*` and `copyright` files under a folder that hold text and can be read, sorted."""
    return sorted(str(path) for path in _walk(folder) if _is_named_like_text(path.name) and _is_text(path))


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def _is_named_like_text(name: str) -> bool:
    if name.endswith(_COMPRESSED):
        return False
    return name == "copyright" or name.startswith("README") or name.endswith(_TEXT_SUFFIXES)


def _is_text(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return b"\0" not in file.read(_PEEK)
    except OSError:
        return False
