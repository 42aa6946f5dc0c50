"""Ends all processes that were started with a mark in their environment, whatever they have become since."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

MARK: Final = "HERD_MUTATION_TRIAL"


def end_marked(mark: str) -> None:
    """Kill every process that has this mark in its environment: what a test started and left behind."""
    wanted = f"{MARK}={mark}".encode()
    for _ in range(3):  # one could be forking just now
        found = [process for process in _processes() if wanted in _environment(process)]
        for process in found:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not found:
            return
        time.sleep(0.05)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _environment(process: int) -> list[bytes]:
    try:
        return Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
