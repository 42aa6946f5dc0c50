"""The path of a file that an option or an environment variable has given, for errors that name both."""

from __future__ import annotations

import os
from typing import Self


class GivenFile(str):
    """A path. `given_by` is its option or variable, such as `--tls-ca` or `$HERD_TLS_CA`."""

    __slots__ = ("given_by",)
    given_by: str

    def __new__(cls, path: str, given_by: str) -> Self:
        self = super().__new__(cls, path)
        self.given_by = given_by
        return self


def of_environment(variable: str, *, is_file: bool = True) -> str | None:
    """Return what a variable holds, as a GivenFile if it is the path of a file; None if it is empty or not set."""
    text = os.environ.get(variable) or None
    return GivenFile(text, f"${variable}") if text and is_file else text


def shown(path: str | os.PathLike[str]) -> str:
    """Return the path of a file for an error, with what has given it if that is known."""
    return f"{path} ({path.given_by})" if isinstance(path, GivenFile) else str(path)
