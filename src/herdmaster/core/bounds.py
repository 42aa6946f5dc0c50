"""Bounds of the numbers in data that other programs write.

Python's integers have no bound, but arithmetic with times, timers and the JSON encoder have. Data with a larger number
is refused by the decoder like any other data that cannot be used.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_MS: Final = 10**13 - 1
"""The last unix time in milliseconds that has 13 digits: in the year 2286."""
MAX_SECONDS: Final = 100 * 366 * 24 * 3600
"""A century."""

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Count = Annotated[int, msgspec.Meta(ge=1, le=2**53)]
UnixMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)]
Pause = Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
"""Seconds that may be none."""
