"""`map` over a generator takes no more memory for many items than for few."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.tasks import App

pytestmark = pytest.mark.long

REPOSITORY = Path(__file__).resolve().parents[2]

PROGRAM = """\
import sys
from herdmaster import Herd
from tests.api import tasks

def resident_kib():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1])

count, warm_up = int(sys.argv[2]), int(sys.argv[3])
total = peak = settled = 0
with Herd(sys.argv[1]) as herd:
    results = herd.task(tasks.echo).map((f"item {number} {'x' * 100}" for number in range(count)), chunksize=200)
    for number, result in enumerate(results):
        assert result.startswith(f"item {number} ")
        if number == warm_up:
            settled = peak = resident_kib()
        elif number > warm_up and number % 1000 == 0:
            peak = max(peak, resident_kib())
print(settled, peak)
"""


def _grown_kib(hosts: str, count: int, warm_up: int, seconds: float) -> int:
    """By how much the memory of a process grew while it mapped over so many items, after the first ones."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, hosts, str(count), str(warm_up)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=True,
    )  # fmt: skip
    settled, peak = map(int, ended.stdout.split())
    return peak - settled


def test_twenty_thousand_items_of_a_generator_take_no_more_memory_than_the_first_five(served: str) -> None:
    # 15,000 items of 110 bytes and their futures would be some 15 MiB.
    assert _grown_kib(served, 20_000, 5_000, 50) < 6 * 1024


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_thousand_items_take_no_more_memory_than_the_first_twenty(served: str) -> None:
    assert _grown_kib(served, 200_000, 20_000, 290) < 8 * 1024


@pytest.mark.parametrize("chunksize", [1, 20])
def test_no_item_and_no_result_is_kept_once_it_has_been_given(app: App, chunksize: int) -> None:
    for number, result in enumerate(app.echo.map(([each] for each in range(400)), window=40, chunksize=chunksize)):
        assert result == [number]
        if number % 100 == 0:
            gc.collect()
            assert len(app.herd._core.started()._refs) <= 40
