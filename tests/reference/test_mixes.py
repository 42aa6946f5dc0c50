"""Each of the eight mixes of {reference, ours} x {master, worker, client} completes its tasks."""

from __future__ import annotations

import pytest

from tests.reference.mixes import MIXES, REFERENCE, Mix, run_mix
from tests.reference.ours import OURS

pytestmark = pytest.mark.long


@pytest.mark.long
@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_a_mix_completes_200_serial_and_200_parallel_tasks(mix: Mix, namespace: str) -> None:
    kit = mix.choose(REFERENCE, OURS)
    run = run_mix(kit.master, kit.worker, kit.client, namespace)

    assert run.complaints() == []
