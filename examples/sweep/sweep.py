"""Sweeps a parameter over many values, and plots what comes out: the bifurcation diagram of the logistic map.

herd worker --app sweep      (in this folder, as often as you like)
python -m sweep diagram.png  (in this folder)

Each value is a small computation, so many go into one znode (`chunksize`), and a bar shows how far they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl

from herdmaster import Herd

mpl.use("Agg")  # it writes a file, and needs no screen

from matplotlib import pyplot as plt

herd = Herd()  # $HERD_ZOOKEEPER, else 127.0.0.1:2181

SETTLE, KEEP = 1000, 100


@herd.task
def attractor(growth: float) -> list[float]:
    """Where x -> growth * x * (1 - x) ends up: one point where it is calm, many where it is chaotic."""
    x = 0.5
    for _ in range(SETTLE):
        x = growth * x * (1 - x)
    points = set()
    for _ in range(KEEP):
        x = growth * x * (1 - x)
        points.add(round(x, 5))
    return sorted(points)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "diagram.png")
    count = 1200
    growths = [2.8 + 1.2 * step / count for step in range(count)]
    with herd:
        found = list(attractor.map(growths, chunksize=50, progress=True))
    figure, axes = plt.subplots(figsize=(9, 6))
    axes.plot(
        [growth for growth, points in zip(growths, found, strict=True) for _ in points],
        [point for points in found for point in points],
        ",k",
        alpha=0.4,
    )
    axes.set(xlabel="growth", ylabel="population", title="The logistic map")
    figure.savefig(target, dpi=120)
    print(f"{sum(map(len, found)):,} points of {count:,} values in {target}")


if __name__ == "__main__":
    main()
