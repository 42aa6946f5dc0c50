"""The task that the clients submit. Its code notes down that it ran, outside of everything that is tested."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from chaos.records import EXECUTIONS, Executed, RecordFile
from herdmaster import Herd

CALL: Final = "chaos.app:work"

herd = Herd()

_executions = RecordFile(Path(os.environ.get(EXECUTIONS, os.devnull)))


@herd.task
def work(tag: str, seconds: float) -> str:
    _executions.append(Executed(tag, os.getpid(), time.time()))
    time.sleep(seconds)
    return tag


@herd.task
def join(parts: list[str], tag: str) -> str:
    """Return the tag if the parts are those of its flow, in their order."""
    _executions.append(Executed(tag, os.getpid(), time.time()))
    expected = [f"{tag}.{number}" for number in range(len(parts))]
    return tag if parts == expected else f"{parts} in place of {expected}"
