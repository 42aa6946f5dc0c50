"""An app whose tasks take a while."""

from __future__ import annotations

import time

from herdmaster import Herd

herd = Herd()


@herd.task
def nap(seconds: float, number: int) -> int:
    time.sleep(seconds)
    return number
