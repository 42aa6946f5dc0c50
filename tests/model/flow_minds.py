"""What masters, workers, clients and operators of the modelled flows know, and how they hear of changes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from herdmaster.core.operations import Move
from tests.model.flow_server import Done, Refused, Setup, Zk, carry_out


class Master(NamedTuple):
    """`link` is `out`, `up` or `away`. `names`: its picture; `unheard`: events under way to it; `version`: that of the
    header when it was read; `request`: what was sent."""

    link: str = "out"
    names: frozenset[str] = frozenset()
    unheard: tuple[str, ...] = ()
    version: int | None = None
    request: Move | None = None


Pair = tuple[Master, Master]


class Worker(NamedTuple):
    """`left_out`: edges of its task that it found gone."""

    link: str = "up"
    request: Move | None = None
    left_out: frozenset[str] = frozenset()


class Actor(NamedTuple):
    """A client or an operator: what it has done, and what it sent."""

    number: int = 0
    request: Move | None = None
    is_gone: bool = False


def apply(setup: Setup, zk: Zk, move: Move, masters: Pair) -> tuple[Done | Refused, dict[str, Hashable]]:
    """Return what ZooKeeper does with a move, and what of the state it changes."""
    done = carry_out(setup, zk, move)
    if isinstance(done, Refused):
        return done, {}
    events = tuple(event for event in done.events if event[1] == "F")
    changes: dict[str, Hashable] = {"zk": done.zk}
    for letter, master in zip("AB", masters, strict=True):
        heard = master if master.link != "up" else master._replace(unheard=(*master.unheard, *events))
        changes[f"master {letter}"] = heard
    return done, changes


def hear(master: Master, count: int) -> Master:
    """Return what a master knows after so many more events. What it read of a flow goes with the flow."""
    names = set(master.names)
    for event in master.unheard[:count]:
        (names.add if event[0] == "+" else names.discard)(event[1:])
    version = None if "-F" in master.unheard[:count] else master.version
    return master._replace(names=frozenset(names), unheard=master.unheard[count:], version=version)
