"""Simulated worlds: the first seeds hold every invariant, and a seed is one story, whatever the hash seed is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from herdmaster.simulation.runner import run_seed

pytestmark = pytest.mark.long

SEED = 7


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(3, 11))])
def test_a_world_full_of_faults_loses_nothing(seed: int) -> None:
    result = run_seed(seed)
    assert result.failure is None, f"python -m herdmaster.simulation --seed {seed}\n{result.failure}"
    assert result.transactions > 0


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_a_seed_replays_byte_for_byte(hash_seed: str) -> None:
    tell = f"run_seed({SEED}, listen=True).story.lines()"
    code = f"from herdmaster.simulation.runner import run_seed; print('\\n'.join({tell}))"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = run_seed(SEED, listen=True).story.lines()
    assert len(lines) > 100
    assert printed.rstrip("\n") == "\n".join(lines).rstrip("\n")
