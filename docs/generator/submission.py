"""Draw one submission across the threads and processes that handle it."""

from __future__ import annotations

from typing import NamedTuple

from docs.generator.svg import COLORS, INK, LINE, PALE, Picture


class _Lane(NamedTuple):
    x: float
    name: str
    place: str


class _Step(NamedTuple):
    source: str
    target: str
    text: str
    color: str = PALE


_LANES = {
    "program": _Lane(90, "calling thread", "program"),
    "io": _Lane(270, "I/O thread", "program"),
    "zookeeper": _Lane(480, "ensemble", "ZooKeeper"),
    "primary": _Lane(690, "event loop", "primary"),
    "worker": _Lane(870, "event loop", "worker"),
    "pool": _Lane(1040, "pool thread", "worker"),
}

_CLIENT, _PRIMARY, _WORKER = COLORS["client"], COLORS["primary"], COLORS["worker"]
_STEPS = (
    _Step("program", "io", "submit: name, payload"),
    _Step("io", "zookeeper", "multi: create /tasks/T", _CLIENT),
    _Step("zookeeper", "io", "reply: accepted"),
    _Step("io", "program", "submit returns the future"),
    _Step("io", "zookeeper", "watch /status/T", _CLIENT),
    _Step("zookeeper", "primary", "event: /tasks/T is there"),
    _Step("primary", "zookeeper", "read the payload", _PRIMARY),
    _Step("primary", "zookeeper", "multi: /tasks/T to /assign/W/T", _PRIMARY),
    _Step("zookeeper", "worker", "event: /assign/W/T is there"),
    _Step("worker", "zookeeper", "read the payload", _WORKER),
    _Step("worker", "pool", "run the function"),
    _Step("pool", "worker", "result"),
    _Step("worker", "zookeeper", "multi: /assign/W/T to /status/T", _WORKER),
    _Step("zookeeper", "io", "event: /status/T is there"),
    _Step("io", "zookeeper", "read the outcome", _CLIENT),
    _Step("io", "program", "result returns"),
    _Step("io", "zookeeper", "multi: delete /status/T", _CLIENT),
)

_TOP, _STEP = 84, 38


def draw() -> str:
    bottom = _TOP + _STEP * (len(_STEPS) + 0.4)
    picture = Picture(1130, round(bottom + 20), "One submission across threads, from submit to result")
    for lane in _LANES.values():
        picture.line([(lane.x, _TOP - 14), (lane.x, bottom)], color=LINE, dashed=True)
        picture.box(lane.x - 68, 20, 136, 48)
        picture.write(lane.x, 40, lane.place, anchor="middle", bold=True)
        picture.write(lane.x, 58, lane.name, anchor="middle", size=12, color=PALE)
    for number, step in enumerate(_STEPS, 1):
        y = _TOP + _STEP * number - 6
        source, target = _LANES[step.source].x, _LANES[step.target].x
        picture.arrow([(source, y), (target, y)], color=step.color)
        color = INK if step.color == PALE else step.color
        picture.write(
            (source + target) / 2, y - 7, f"{number}. {step.text}", anchor="middle", size=12, color=color, halo=True
        )
    return picture.text()
