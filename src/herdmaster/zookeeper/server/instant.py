"""Moments, and what begins with one."""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """A moment on both clocks, in milliseconds: `monotonic` for expiry, `unix` for what znodes show."""

    monotonic: int
    unix: int


def first_zxid(unix_ms: int) -> int:
    """Where a server without a past begins to count: above every zxid that another one issued before, for clients
    refuse to go back in time. The seconds stand in the high 32 bits, as an epoch does; the milliseconds, at the top of
    the low ones, tell two starts within a second apart."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return (seconds & 0x7FFFFFFF) << 32 | milliseconds << 22
