"""Moments of the server's clocks, and the zxid with which a server begins."""

from __future__ import annotations

from typing import NamedTuple


class Instant(NamedTuple):
    """A moment on both clocks, in milliseconds: `monotonic` for expiry, `unix` for what znodes show."""

    monotonic: int
    unix: int


def first_zxid(unix_ms: int) -> int:
    """Return the zxid with which a server without a past begins to count. It is above every zxid that an earlier one
    issued, because clients refuse to go back in time. The high 32 bits are seconds, in place of an epoch; the top of
    the low bits are milliseconds, which tell two starts within a second apart."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return (seconds & 0x7FFFFFFF) << 32 | milliseconds << 22
