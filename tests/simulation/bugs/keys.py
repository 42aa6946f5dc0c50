"""Planted bugs of uniqueness keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

from herdmaster.core import ending_moves, endings, layout, transitions
from herdmaster.core.keys import parse_hold_name
from herdmaster.core.transitions import DeleteNode, Move
from herdmaster.roles.client.key_claims import KeyedSubmissions
from herdmaster.roles.worker import next_move
from herdmaster.zookeeper.client import Client


def key_kept_by_failures() -> Any:
    """A failed task keeps its key, as a task that is done does."""
    return patch.object(next_move, "key_without_success", lambda _call: None)


def key_kept_by_the_primary() -> Any:
    """A task that the primary ends keeps its key."""
    return patch.object(ending_moves, "freed_key", lambda _task, _payload: None)


def key_freed_by_success() -> Any:
    """A task that is done frees its key."""
    end = next_move.NextMoves._end

    def free(self: Any, task: Any, outcome: bytes, key: Any = None) -> Move:
        return end(self, task, outcome, key or (task.call and endings.key_without_success(task.call)))

    return patch.object(next_move.NextMoves, "_end", free)


def key_of_another_freed() -> Any:
    """A task that has lost its key frees the key without looking which task holds it."""
    without_key = transitions.without_key

    def without_hold(move: Move) -> Move:
        kept = tuple(
            each
            for each in move.operations
            if not isinstance(each, DeleteNode) or parse_hold_name(layout.name_of(each.path)) is None
        )
        found = Move(move.transition, move.task, kept, move.guard)
        return without_key(move) if found == move else found

    return patch.object(transitions, "without_key", without_hold)


def key_released_without_its_hold() -> Any:
    """The operator deletes a key and leaves its hold."""
    release = transitions.release

    def half(task: str, key_hash: str) -> Move:
        move = release(task, key_hash)
        return Move(move.transition, task, move.operations[1:], 0)

    return patch.object(transitions, "release", half)


def any_holder_is_told() -> Any:
    """A submitter is told of the holder of another key with the same text."""

    async def find(self: Any, client: Client, claims: Any) -> dict[str, str]:
        replies = await client.multi_read([layout.key_path(claim.old_key) for claim in claims])
        return {
            claim.task.name: (reply[0] or b"").decode()
            for claim, reply in zip(claims, replies, strict=True)
            if isinstance(reply, tuple)
        }

    return patch.object(KeyedSubmissions, "_find_old_holders", find)


def key_not_replayed() -> Any:
    """A dead task that is replayed leaves its key behind."""
    replay = transitions.replay

    def without(task: str, new_task: str, data: bytes, held: Any = None, _new_key: Any = None) -> Move:
        return replay(task, new_task, data, held)

    return patch.object(transitions, "replay", without)


def hold_left_by_replay() -> Any:
    """A dead task that is replayed while it has its key leaves its hold behind."""
    replay = transitions.replay

    def without(task: str, new_task: str, data: bytes, held: Any = None, new_key: Any = None) -> Move:
        move = replay(task, new_task, data, held, new_key)
        hold = None if held is None else layout.hold_path(held.hash, task)
        kept = tuple(each for each in move.operations if not isinstance(each, DeleteNode) or each.path != hold)
        return Move(move.transition, task, kept, move.guard)

    return patch.object(transitions, "replay", without)


def outcome_swept_without_its_key() -> Any:
    """The sweep deletes an outcome and leaves its task the key."""
    expire = transitions.expire
    return patch.object(transitions, "expire", lambda task, _held: expire(task))


BUGS: dict[str, Callable[[], Any]] = {
    bug.__name__: bug
    for bug in (
        key_kept_by_failures,
        key_kept_by_the_primary,
        key_freed_by_success,
        key_of_another_freed,
        key_released_without_its_hold,
        any_holder_is_told,
        key_not_replayed,
        hold_left_by_replay,
        outcome_swept_without_its_key,
    )
}
