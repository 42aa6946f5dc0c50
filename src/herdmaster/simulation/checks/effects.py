"""A transaction as who did what to which task, read from its effects alone: independent of the code that made it."""

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
    """Who a session belongs to. `name` is the process's."""

    name: str
    slot: str
    kind: Kind
    reference: bool


SERVER: Final = Actor("server", "server", Kind.MASTER, reference=False)


class Deed(msgspec.Struct):
    """Paths in the order of the transaction. `places` is where each task that it touches was before."""

    session_id: int
    zxid: int
    created: list[tuple[str, bytes, int]]
    deleted: list[str]
    changed: list[str]
    opened: int | None
    closed: int | None
    places: dict[str, tuple[str, ...]]
    written: dict[str, bytes]
    """What stands now in the nodes that it changed."""
    time: int
    """The servers' clock, in unix milliseconds."""


def task_of(path: str) -> str | None:
    """The task that stands at a path; None for every other znode."""
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
    """The worker in whose inbox a path is."""
    match path.split("/"):
        case ["", "assign", worker, _]:
            return worker
    return None


def read_deed(session_id: int, transaction: Transaction, namespace: str) -> Deed:
    """Paths are those within the namespace."""
    deed = Deed(session_id, transaction.zxid, [], [], [], None, None, {}, {}, transaction.time)
    for effect in transaction.effects:
        match effect:
            case NodeCreated():
                deed.created.append((effect.path.removeprefix(namespace), effect.data or b"", effect.session_id))
            case NodeDeleted(path):
                deed.deleted.append(path.removeprefix(namespace))
            case DataSet(path, data):
                deed.changed.append(path.removeprefix(namespace))
                deed.written[path.removeprefix(namespace)] = data or b""
            case SessionOpened():
                deed.opened = effect.session_id
            case SessionClosed():
                deed.closed = effect.session_id
            case _:
                deed.changed.append(effect.path)
    return deed


_WORDS: Final[tuple[tuple[set[str], set[str], str], ...]] = (
    # what is deleted, what is created, what that is called
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
    ({"status"}, set(), "took away the outcome of"),
    ({"assign"}, set(), "dropped the assignment of"),
    ({"tasks"}, set(), "dropped from /tasks"),
    (set(), {"tasks"}, "submitted"),
    (set(), {"delayed"}, "submitted for later"),
    (set(), {"assign"}, "created an assignment of"),
    (set(), {"status"}, "created an outcome of"),
)


def tell(deed: Deed) -> str:
    """The deed in words: tasks first, then what else it touches."""
    parts: list[str] = []
    if deed.opened is not None:
        parts.append(f"session {deed.opened:x} began")
    if deed.closed is not None:
        parts.append(f"session {deed.closed:x} ended")
    moves: dict[str, tuple[list[str], list[str]]] = {}
    others: list[str] = []
    for path in deed.deleted:
        task = task_of(path)
        if task is None:
            others.append(f"deleted {path}")
        else:
            moves.setdefault(task, ([], []))[0].append(path)
    for path, data, owner in deed.created:
        task = task_of(path)
        if task is None:
            others.append(f"created {path}{' (ephemeral)' if owner else ''}{f' {data[:60]!r}' if data else ''}")
        else:
            moves.setdefault(task, ([], []))[1].append(path)
    others.extend(f"set {path}" for path in deed.changed)
    parts += [_tell_move(task, *paths) for task, paths in moves.items()]
    return "; ".join((*parts, *others)) or "tried in vain"


def _tell_move(task: str, deleted: list[str], created: list[str]) -> str:
    gone, come = ({path.split("/")[1] for path in paths} for paths in (deleted, created))
    for before, after, words in _WORDS:
        if (gone, come) == (before, after):
            worker = next((inbox for path in (*created, *deleted) if (inbox := inbox_of(path))), "")
            return f"{words} {task}{f' ({worker})' if worker else ''}"
    return f"moved {task} from {', '.join(deleted) or 'nowhere'} to {', '.join(created) or 'nowhere'}"
