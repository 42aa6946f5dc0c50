"""Sessions: buckets of expiry, ids and passwords."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.zookeeper.server.sessions import Sessions, first_session_id, is_password, password_of

TICK = 100


@given(now=st.integers(0, 10**9), timeout=st.integers(1, 60_000))
def test_a_session_lives_one_timeout_to_one_timeout_and_a_tick(now: int, timeout: int) -> None:
    sessions = Sessions(TICK, 1)
    session = sessions.open(1, timeout)
    sessions.touch(session, now)
    assert session.deadline == (now + timeout) // TICK * TICK + TICK
    assert sessions.expired(now + timeout) == []
    assert sessions.expired(now + timeout + TICK) == [1]


def test_a_sign_of_life_moves_the_deadline() -> None:
    sessions = Sessions(TICK, 1)
    session = sessions.open(1, 1000)
    sessions.touch(session, 0)
    sessions.touch(session, 900)
    assert sessions.expired(1100) == []
    assert sessions.expired(2000) == [1]


def test_a_shorter_timeout_brings_the_deadline_forward() -> None:
    sessions = Sessions(TICK, 1)
    session = sessions.open(1, 40_000)
    sessions.touch(session, 0)
    session.timeout = 1000
    sessions.touch(session, 0)
    assert sessions.expired(1100) == [1]
    assert sessions.next_deadline() == 1100


def test_sessions_expire_by_deadline_then_by_the_order_of_their_last_sign_of_life() -> None:
    sessions = Sessions(TICK, 1)
    for session_id, timeout in ((1, 2000), (2, 1000), (3, 1000)):
        sessions.touch(sessions.open(session_id, timeout), 0)
    assert sessions.expired(5000) == [2, 3, 1]


def test_a_session_that_was_never_touched_does_not_expire_until_the_restart() -> None:
    sessions = Sessions(TICK, 1)
    sessions.open(1, 1000)
    assert sessions.expired(10**12) == []
    sessions.restart(500)
    assert sessions.expired(1599) == []
    assert sessions.expired(1600) == [1]


def test_a_closed_session_is_gone_from_everywhere() -> None:
    sessions = Sessions(TICK, 1)
    sessions.touch(sessions.open(1, 1000), 0)
    sessions.close(1)
    sessions.close(1)
    assert sessions.find(1) is None
    assert sessions.expired(10**9) == []
    assert sessions.buckets() == []
    assert len(sessions) == 0


def test_ids_go_on_above_every_known_session() -> None:
    sessions = Sessions(TICK, 10)
    sessions.open(20, 1000)
    assert sessions.next_id == 21
    sessions.open(5, 1000)
    assert sessions.next_id == 21


def test_the_first_id_has_the_servers_number_in_its_high_byte_and_room_to_count() -> None:
    first = first_session_id(1, 1_700_000_000_123)
    assert first >> 56 == 1
    assert first & 0xFFFF == 0
    assert first_session_id(1, 1_700_000_000_124) > first
    assert -(1 << 63) <= first_session_id(255, 1_700_000_000_123) < 0


def test_a_password_is_of_one_session_and_one_secret() -> None:
    password = password_of(7, b"secret")
    assert len(password) == 16
    assert is_password(password, 7, b"secret")
    assert not is_password(password, 8, b"secret")
    assert not is_password(password, 7, b"another")
    assert not is_password(None, 7, b"secret")
    assert not is_password(b"", 7, b"secret")
