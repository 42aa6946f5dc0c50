"""A small disk that can be filled: a tmpfs over a server's data folder, where this machine allows mounting one."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOM: Final = 24 * 1024 * 1024
_CHUNK: Final = bytes(64 * 1024)
_FILLER: Final = "filler"


class NoSmallDisk(Exception):
    """A tmpfs cannot be mounted here; the message says why."""


class SmallDisk:
    def __init__(self, folder: Path) -> None:
        self._filler = folder / _FILLER

    def fill(self) -> None:
        """Leaves no byte. The room comes back with the end of the small disk."""
        with self._filler.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(_CHUNK)
            except OSError:  # ENOSPC
                return


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Puts a disk with a little room beneath a folder whose server is down; before the end it has to be down again.

    Raises NoSmallDisk.
    """
    with tempfile.TemporaryDirectory(prefix="herdmaster-chaos-disk-") as aside:
        kept = Path(aside) / "kept"
        shutil.copytree(folder, kept)
        size = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file()) + _ROOM
        _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
        try:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            yield SmallDisk(folder)
        finally:
            shutil.rmtree(kept)
            shutil.copytree(folder, kept, ignore=shutil.ignore_patterns(_FILLER))
            # Lazily: a process that still has a file open there, after a Ctrl-C say, must not keep the mount alive.
            _run("umount", "--lazy", str(folder))
            shutil.rmtree(folder)  # the folder below is older, and may hold logs that the server has truncated since
            shutil.copytree(kept, folder)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoSmallDisk(f"there is no {command[0]} here") from None
    except subprocess.CalledProcessError as error:
        raise NoSmallDisk(error.stderr.strip() or f"{command[0]} failed") from None
