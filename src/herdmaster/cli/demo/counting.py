"""The job: how often each word stands in the texts of a folder. One file is one task."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

_WORD: Final = re.compile(r"[a-z]+")
_TEXT_SUFFIXES: Final = (".txt", ".md")
_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
_PEEK: Final = 8192
_OTHERS_PACKAGES: Final = ("site-packages", "dist-packages")


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


class Texts(msgspec.Struct, frozen=True):
    """What is counted: files, and the folder that they are under."""

    folder: Path
    files: list[str]


def find_texts(folder: Path) -> list[str]:
    """The `.txt`, `.md`, `README*` and `copyright` files under a folder that hold text and can be read, sorted."""
    return _texts(path for path in _walk(folder) if _is_named_like_text(path.name))


def find_sources(folder: Path) -> list[str]:
    """The `.py` files under a folder that can be read, without those of installed packages, sorted."""
    return _texts(path for path in _walk(folder, without=_OTHERS_PACKAGES) if path.suffix == ".py")


def _texts(paths: Iterable[Path]) -> list[str]:
    return sorted(str(path) for path in paths if _is_text(path))


def _walk(folder: Path, without: Sequence[str] = ()) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        for name in names:
            yield Path(parent, name)


def _is_named_like_text(name: str) -> bool:
    if name.endswith(_COMPRESSED):
        return False
    return name == "copyright" or name.startswith("README") or name.endswith(_TEXT_SUFFIXES)


def _is_text(path: Path) -> bool:
    try:
        str(path).encode()  # or no task could be given its name
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return b"\0" not in file.read(_PEEK)
    except (OSError, UnicodeEncodeError):
        return False
