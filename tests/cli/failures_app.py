"""An app for masters: its hook writes a line for each final failure into a file."""

from __future__ import annotations

import os
from pathlib import Path

from herdmaster import CurrentTask, Herd

TOLD = "TEST_TOLD"
"""The variable with the path of the file."""

herd = Herd()


@herd.on_final_failure
def tell(task: CurrentTask, error: BaseException) -> None:
    with Path(os.environ[TOLD]).open("a") as told:
        told.write(f"{task.name} {task.queue} {error!r}\n")
    if "crash" in task.name:
        os._exit(7)
