"""Draw the layers of the code, as the import contracts in `pyproject.toml` name them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from docs.generator.svg import PALE, Picture

ROOT = Path(__file__).resolve().parents[2]

_WIDTH, _ROW, _GAP, _MARGIN = 860, 50, 14, 24
_MEANINGS = {
    "cli": "the command herd",
    "monitoring": "metrics, health and scaling over HTTP",
    "api": "Herd, tasks, futures",
    "operations": "cancel, replay, pause",
    "roles": "primary, worker, client",
    "running": "calls a task's function",
    "inspection": "looks, changes nothing",
    "core": "names, table, decisions",
    "pools": "where task code runs",
    "zookeeper.recipes": "children, election",
    "zookeeper.client": "one session",
    "zookeeper.server": "the embedded server",
    "zookeeper.wire": "bytes to records",
}


def layers() -> list[list[str]]:
    """From the top layer to the bottom layer, the packages of each without `herdmaster.`."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if each["id"] == "layers")
    return [
        [package.strip().removeprefix("herdmaster.") for package in re.split(r"[|:]", layer)]
        for layer in contract["layers"]
    ]


def draw() -> str:
    rows = layers()
    height = 2 * _MARGIN + len(rows) * (_ROW + _GAP) + 18
    picture = Picture(_WIDTH, height, "The layers of the code, the top one first; imports point downwards")
    inner = _WIDTH - 2 * _MARGIN - 40
    for number, row in enumerate(rows):
        y = _MARGIN + number * (_ROW + _GAP)
        width = (inner - _GAP * (len(row) - 1)) / len(row)
        for column, package in enumerate(row):
            x = _MARGIN + column * (width + _GAP)
            picture.box(x, y, width, _ROW)
            picture.write(x + width / 2, y + 21, package, anchor="middle", bold=True, mono=True)
            picture.write(x + width / 2, y + 39, _MEANINGS.get(package, ""), anchor="middle", size=12, color=PALE)
    right = _WIDTH - _MARGIN - 10
    bottom = _MARGIN + len(rows) * (_ROW + _GAP) - _GAP
    picture.arrow([(right, _MARGIN), (right, bottom)])
    picture.write(
        _MARGIN, bottom + 28, "Imports point downwards. testing and simulation stand beside and may import anything.",
        size=12, color=PALE,
    )  # fmt: skip
    return picture.text()
