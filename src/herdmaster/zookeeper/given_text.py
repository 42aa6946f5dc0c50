"""Settings that an option or an environment variable has given, for errors that name both."""

from __future__ import annotations

import os
from typing import Self


class GivenText(str):
    """A setting, such as the path of a file. `given_by` is its option or variable: `--tls-ca`, `$HERD_TLS_CA`."""

    __slots__ = ("given_by",)
    given_by: str

    def __new__(cls, text: str, given_by: str) -> Self:
        self = super().__new__(cls, text)
        self.given_by = given_by
        return self

    @classmethod
    def of_environment(cls, variable: str) -> Self | None:
        """Return what the variable holds; None if it is empty or not set."""
        text = os.environ.get(variable)
        return cls(text, f"${variable}") if text else None


def shown(path: str | os.PathLike[str]) -> str:
    """Return the path of a file for an error, with what has given it if that is known."""
    return f"{path} ({path.given_by})" if isinstance(path, GivenText) else str(path)
