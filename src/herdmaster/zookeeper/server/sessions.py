"""Sessions and their expiry, without a clock: every time is a parameter, in monotonic milliseconds.

Sessions expire in buckets: deadline = floor((now + timeout) / tick) * tick + tick. So a session lives between one
timeout and one timeout and a tick after its last sign of life.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec

PASSWORD_LENGTH: Final = 16


class Session(msgspec.Struct):
    """An open session. `timeout` is in milliseconds; `deadline` is 0 while no clock has run for it yet."""

    id: int
    timeout: int
    deadline: int = 0


def first_session_id(server_id: int, unix_ms: int) -> int:
    """Return the first id of a server: its number in the high byte, five bytes of its clock, two bytes of counter."""
    number = (server_id & 0xFF) << 56 | (unix_ms & 0xFFFFFFFFFF) << 16
    return number - (1 << 64) if number >= 1 << 63 else number


def password_of(session_id: int, secret: bytes) -> bytes:
    """Return the password of a session, which only this server can make."""
    return hmac.digest(secret, session_id.to_bytes(8, "big", signed=True), hashlib.sha256)[:PASSWORD_LENGTH]


def is_password(candidate: bytes | None, session_id: int, secret: bytes) -> bool:
    return hmac.compare_digest(candidate or b"", password_of(session_id, secret))


class Sessions:
    """The open sessions, in the order in which they were opened."""

    def __init__(self, tick: int, next_id: int) -> None:
        self.tick = tick
        self.next_id = next_id
        self._sessions: dict[int, Session] = {}
        self._buckets: dict[int, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session_id: int) -> Session | None:
        return self._sessions.get(session_id)

    def all(self) -> tuple[Session, ...]:
        return tuple(self._sessions.values())

    def open(self, session_id: int, timeout: int) -> Session:
        """Open a session, which does not expire before its first `touch`."""
        session = Session(session_id, timeout)
        self._sessions[session_id] = session
        self.next_id = max(self.next_id, session_id + 1)
        return session

    def close(self, session_id: int) -> None:
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._leave_bucket(session)

    def touch(self, session: Session, now: int) -> None:
        """Note a sign of life. A shorter timeout than before may bring the deadline forward."""
        tick = self.tick
        deadline = (now + session.timeout) // tick * tick + tick
        if deadline == session.deadline:
            return
        self._leave_bucket(session)
        session.deadline = deadline
        self._buckets.setdefault(deadline, {})[session.id] = None

    def restart(self, now: int) -> None:
        """Give all sessions their whole timeout from now on, as after a restart of the server."""
        for session in self._sessions.values():
            self.touch(session, now)

    def expired(self, now: int) -> list[int]:
        """Return the sessions whose time is over, oldest deadline first. They stay until `close`."""
        due = sorted(deadline for deadline in self._buckets if deadline <= now)
        return [session_id for deadline in due for session_id in self._buckets[deadline]]

    def next_deadline(self) -> int | None:
        return min(self._buckets, default=None)

    def buckets(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return the deadlines with their sessions, the soonest first."""
        return [(deadline, tuple(self._buckets[deadline])) for deadline in sorted(self._buckets)]

    def _leave_bucket(self, session: Session) -> None:
        bucket = self._buckets.get(session.deadline)
        if bucket is not None:
            bucket.pop(session.id, None)
            if not bucket:
                del self._buckets[session.deadline]
