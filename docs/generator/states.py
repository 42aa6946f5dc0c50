"""Draw the states of a task: each arrow is a row of the transition table in `core/table.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from docs.generator.svg import COLORS, INK, PALE, Picture
from herdmaster.core.flow_rows import FLOW_ROWS
from herdmaster.core.table import TABLE, Place, Role, Transition

ABSENT = "absent"
"""Before a task is submitted, and after its outcome was collected."""

_OF_A_TASK = (Place.TASKS, Place.DELAYED, Place.ASSIGN, Place.STATUS, Place.DEAD)
_SAME_AS = {Place.RENAMED: Place.TASKS}


class Edge(NamedTuple):
    source: str
    target: str
    transitions: tuple[Transition, ...]


class _Node(NamedTuple):
    x: float
    y: float
    name: str
    meaning: str


class _Route(NamedTuple):
    points: tuple[tuple[float, float], ...]
    label: tuple[float, float]
    anchor: str = "start"


_WIDTH, _HEIGHT = 150, 54
_NODES: dict[str, _Node] = {
    Place.DELAYED: _Node(60, 300, "delayed/DUE-T", "not due yet"),
    Place.TASKS: _Node(60, 120, "tasks/T", "waits"),
    Place.ASSIGN: _Node(420, 120, "assign/W/T", "in an inbox, or running"),
    Place.STATUS: _Node(780, 300, "status/T", "has ended"),
    Place.DEAD: _Node(780, 120, "dead/T", "kept for replay"),
}
"""Top left corners."""

_ROUTES: dict[tuple[str, str], _Route] = {
    (ABSENT, Place.TASKS): _Route(((20, 147), (60, 147)), (20, 76)),
    (ABSENT, Place.DELAYED): _Route(((20, 327), (60, 327)), (20, 372)),
    (Place.DELAYED, Place.TASKS): _Route(((100, 300), (100, 174)), (108, 234)),
    (Place.TASKS, Place.ASSIGN): _Route(((210, 138), (420, 138)), (315, 130), "middle"),
    (Place.ASSIGN, Place.TASKS): _Route(((420, 160), (210, 160)), (315, 178), "middle"),
    (Place.ASSIGN, Place.DELAYED): _Route(((450, 174), (450, 318), (210, 318)), (330, 295), "middle"),
    (Place.ASSIGN, Place.ASSIGN): _Route(((470, 120), (470, 84), (520, 84), (520, 120)), (495, 58), "middle"),
    (Place.ASSIGN, Place.STATUS): _Route(((510, 174), (510, 312), (780, 312)), (645, 250), "middle"),
    (Place.ASSIGN, Place.DEAD): _Route(((570, 147), (780, 147)), (675, 139), "middle"),
    (Place.TASKS, Place.STATUS): _Route(((185, 174), (185, 262), (390, 262), (390, 332), (780, 332)), (196, 238)),
    (Place.DELAYED, Place.STATUS): _Route(((135, 354), (135, 400), (840, 400), (840, 354)), (400, 378)),
    (Place.ASSIGN, ABSENT): _Route(((545, 174), (545, 206)), (556, 204)),
    (Place.STATUS, ABSENT): _Route(((930, 327), (980, 327)), (940, 345)),
    (Place.DEAD, Place.TASKS): _Route(((855, 120), (855, 34), (135, 34), (135, 120)), (300, 28), "middle"),
}
"""Where the arrows run and where their labels start; an arrow of the table that is missing here is an error."""


def _rows() -> list[Transition]:
    """The rows of the table without those of flows."""
    return [row for row in TABLE.values() if row not in FLOW_ROWS]


def edges() -> list[Edge]:
    """The arrows of the picture, each with its rows of the table."""
    found: dict[tuple[str, str], list[Transition]] = {}
    for row in _rows():
        for pair in _ways(row):
            found.setdefault(pair, []).append(row)
    return [Edge(*pair, tuple(rows)) for pair, rows in found.items()]


def copies_dropped() -> list[Transition]:
    """The rows that delete one of two copies: a row checks the other copy, and produces nothing."""
    return [row for row in _rows() if row.checks and not row.produces and not row.sets]


def _ways(row: Transition) -> Iterator[tuple[str, str]]:
    source = next((place for place in (*row.consumes, *row.sets) if place in _OF_A_TASK), None)
    targets: list[str] = [
        _SAME_AS.get(place, place) for place in row.produces if _SAME_AS.get(place, place) in _OF_A_TASK
    ]
    if row in copies_dropped() or (source is None and not targets):
        return
    if source is not None and not targets and not row.consumes:
        targets = [source]
    for target in targets or [ABSENT]:
        yield source or ABSENT, target


def draw() -> str:
    picture = Picture(1000, 508, "The states of a task, and the transitions between them")
    for edge in edges():
        route = _ROUTES[edge.source, edge.target]
        roles = {role for row in edge.transitions for role in row.by}
        picture.arrow(route.points, color=COLORS[roles.pop()] if len(roles) == 1 else PALE)
    for edge in edges():
        _label(picture, edge, _ROUTES[edge.source, edge.target])
    for node in _NODES.values():
        picture.box(node.x, node.y, _WIDTH, _HEIGHT)
        picture.write(node.x + _WIDTH / 2, node.y + 23, node.name, anchor="middle", bold=True, mono=True)
        picture.write(node.x + _WIDTH / 2, node.y + 42, node.meaning, anchor="middle", size=12, color=PALE)
    _legend(picture)
    return picture.text()


def _label(picture: Picture, edge: Edge, route: _Route) -> None:
    x, y = route.label
    for number, row in enumerate(edge.transitions):
        color = COLORS[row.by[0]] if len(row.by) == 1 else INK
        picture.write(x, y + 16 * number, row.name, color=color, size=12, anchor=route.anchor, halo=True)


def _legend(picture: Picture) -> None:
    for number, role in enumerate(Role):
        picture.write(24 + 80 * number, 440, role, size=12, color=COLORS[role], bold=True)
    picture.write(24 + 80 * len(Role), 440, "black, grey: two of them", size=12)
    dropped = [row.name.removeprefix("drop ") for row in copies_dropped()]
    half = (len(dropped) + 1) // 2
    picture.write(24, 466, f"One of two copies is dropped: {', '.join(dropped[:half])},", size=12, color=PALE)
    picture.write(24, 484, f"{', '.join(dropped[half:])}.", size=12, color=PALE)
