"""The directory in which the processes of a pool are started. No task of the worker can change it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ROOT: Final = "/"

_log = logging.getLogger("herdmaster.worker")


class Folder:
    """The working directory that this process had when the object was made."""

    def __init__(self) -> None:
        try:
            self.path = str(Path.cwd())
        except FileNotFoundError:
            self.path = _ROOT
        self._is_logged = False

    def find(self) -> str:
        """Return the path of the directory, or `/` if it can no longer be entered. Logs that once."""
        if os.access(self.path, os.X_OK):
            return self.path
        if not self._is_logged:
            self._is_logged = True
            _log.warning(
                "the directory that the worker was started in, %s, is gone: its processes start in %s from now on",
                self.path,
                _ROOT,
            )
        return _ROOT

    def resolve(self, path: Iterable[str]) -> list[str]:
        """Return the entries of `sys.path` as absolute paths."""
        return [str(Path(self.path, entry)) for entry in path]
