"""The effects of a transaction, read without the code that asked for it: which tasks and other znodes changed."""

from __future__ import annotations

from typing import Final

import msgspec

from herdmaster.core import layout
from herdmaster.simulation.plan.plan import Kind
from herdmaster.zookeeper.server.effects import (
    DataSet,
    NodeCreated,
    NodeDeleted,
    SessionClosed,
    SessionOpened,
    Transaction,
)

_FOLDERS_OF_TASKS: Final = (layout.TASKS, layout.STATUS, layout.DEAD, layout.CANCEL)


class Actor(msgspec.Struct, frozen=True):
    """The owner of a session. `name` is that of the process."""

    name: str
    program: str
    kind: Kind
    reference: bool


SERVER: Final = Actor("server", "server", Kind.MASTER, reference=False)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A transaction and the session that asked for it; 0 for one that the server made by itself."""

    session_id: int
    transaction: Transaction


class Effects(msgspec.Struct):
    """The effects of one transaction. Paths are in its order; `places` is where each task that it touches was
    before."""

    session_id: int
    zxid: int
    created: list[tuple[str, bytes, int]]
    deleted: list[str]
    changed: list[str]
    opened: int | None
    closed: int | None
    places: dict[str, tuple[str, ...]]
    written: dict[str, bytes]
    """The new data of the changed nodes."""
    time: int
    """The servers' clock, in unix milliseconds."""


def task_of(path: str) -> str | None:
    """Return the task that a path belongs to, or None."""
    match path.split("/"):
        case ["", "assign", _, task]:
            return task
        case ["", "delayed", name]:
            found = layout.parse_delayed_name(name)
            return None if found is None else found[1]
        case ["", _, task] if path[: path.rindex("/")] in _FOLDERS_OF_TASKS:
            return task
    return None


def inbox_of(path: str) -> str | None:
    """Return the worker in whose inbox a path is, or None."""
    match path.split("/"):
        case ["", "assign", worker, _]:
            return worker
    return None


def read_effects(entry: Entry, namespace: str) -> Effects:
    """Read the effects, with paths relative to the namespace."""
    transaction = entry.transaction
    effects = Effects(entry.session_id, transaction.zxid, [], [], [], None, None, {}, {}, transaction.time)
    for effect in transaction.effects:
        match effect:
            case NodeCreated():
                effects.created.append((effect.path.removeprefix(namespace), effect.data or b"", effect.session_id))
            case NodeDeleted(path):
                effects.deleted.append(path.removeprefix(namespace))
            case DataSet(path, data):
                effects.changed.append(path.removeprefix(namespace))
                effects.written[path.removeprefix(namespace)] = data or b""
            case SessionOpened():
                effects.opened = effect.session_id
            case SessionClosed():
                effects.closed = effect.session_id
            case _:
                effects.changed.append(effect.path)
    return effects


_WORDS: Final[tuple[tuple[set[str], set[str], str], ...]] = (
    # folders deleted from, folders created in, the words for that
    ({"tasks"}, {"assign"}, "assigned"),
    ({"assign"}, {"status"}, "completed"),
    ({"assign"}, {"tasks"}, "put back"),
    ({"assign"}, {"dead", "status"}, "buried"),
    ({"assign"}, {"delayed"}, "put back for later"),
    ({"delayed"}, {"tasks"}, "promoted"),
    ({"delayed"}, {"status"}, "refused"),
    ({"tasks"}, {"status"}, "refused"),
    ({"tasks", "cancel"}, {"status"}, "cancelled"),
    ({"delayed", "cancel"}, {"status"}, "cancelled"),
    ({"assign", "cancel"}, {"status"}, "cancelled"),
    (set(), {"cancel"}, "asked to cancel"),
    ({"cancel"}, set(), "dropped the request to cancel"),
    ({"status"}, set(), "deleted the outcome of"),
    ({"assign"}, set(), "dropped the assignment of"),
    ({"tasks"}, set(), "dropped from /tasks"),
    (set(), {"tasks"}, "submitted"),
    (set(), {"delayed"}, "submitted for later"),
    (set(), {"assign"}, "created an assignment of"),
    (set(), {"status"}, "created an outcome of"),
)


def describe(effects: Effects) -> str:
    """Describe the effects: tasks first, then other znodes."""
    parts: list[str] = []
    if effects.opened is not None:
        parts.append(f"session {effects.opened:x} began")
    if effects.closed is not None:
        parts.append(f"session {effects.closed:x} ended")
    moves: dict[str, tuple[list[str], list[str]]] = {}
    others: list[str] = []
    for path in effects.deleted:
        task = task_of(path)
        if task is None:
            others.append(f"deleted {path}")
        else:
            moves.setdefault(task, ([], []))[0].append(path)
    for path, data, owner in effects.created:
        task = task_of(path)
        if task is None:
            others.append(f"created {path}{' (ephemeral)' if owner else ''}{f' {data[:60]!r}' if data else ''}")
        else:
            moves.setdefault(task, ([], []))[1].append(path)
    others.extend(f"set {path}" for path in effects.changed)
    parts += [_describe_move(task, *paths) for task, paths in moves.items()]
    return "; ".join((*parts, *others)) or "changed nothing"


def _describe_move(task: str, deleted: list[str], created: list[str]) -> str:
    gone, come = ({path.split("/")[1] for path in paths} for paths in (deleted, created))
    for before, after, words in _WORDS:
        if (gone, come) == (before, after):
            worker = next((inbox for path in (*created, *deleted) if (inbox := inbox_of(path))), "")
            return f"{words} {task}{f' ({worker})' if worker else ''}"
    return f"moved {task} from {', '.join(deleted) or 'nowhere'} to {', '.join(created) or 'nowhere'}"
