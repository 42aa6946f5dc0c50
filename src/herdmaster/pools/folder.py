"""The directory in which the processes of a pool are started, which no task of the worker can change."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ROOT: Final = "/"

_log = logging.getLogger("herdmaster.worker")


class Folder:
    """The working directory that this process has when this is made."""

    def __init__(self) -> None:
        try:
            self.path = str(Path.cwd())
        except FileNotFoundError:
            self.path = _ROOT
        self._is_told = False

    def find(self) -> str:
        """Its path, or `/` once it cannot be entered any more, which is logged once."""
        if os.access(self.path, os.X_OK):
            return self.path
        if not self._is_told:
            self._is_told = True
            _log.warning(
                "the directory that the worker was started in, %s, is gone: its processes start in %s from now on",
                self.path,
                _ROOT,
            )
        return _ROOT

    def resolve(self, path: Iterable[str]) -> list[str]:
        """Entries of `sys.path` that mean the same in every directory."""
        return [str(Path(self.path, entry)) for entry in path]
