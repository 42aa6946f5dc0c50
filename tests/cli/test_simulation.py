"""`herd simulate`: what it prints, how it ends, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from herdmaster.cli.program import herd
from herdmaster.simulation.runner import run_seeds
from tests.cli.processes import HERD, REPOSITORY, wait_until
from tests.fallbacks import FALLBACKS
from tests.simulation.bugs.protocol import BUGS

# A simulated world is the same in this process as in another one, whose times are as they are.
pytestmark = [pytest.mark.long, pytest.mark.fallback(*FALLBACKS)]


def run(*arguments: str) -> Result:
    before = signal.getsignal(signal.SIGTERM)
    try:
        return CliRunner().invoke(herd, ["simulate", *arguments], prog_name="herd")
    finally:
        signal.signal(signal.SIGTERM, before)


def test_seeds_that_hold_end_with_0_and_say_how_many_they_were() -> None:
    result = run("--seeds", "3", "--start", "11", "--processes", "1")
    assert result.exit_code == 0
    first, second, last = result.stdout.splitlines()
    assert first == "seeds 11 to 13"
    assert second.startswith("3 seeds in ")
    assert second.endswith(" 0 failed")
    assert re.fullmatch(r"\d+ faults: \d+ [A-Z]\w+(, \d+ [A-Z]\w+)*", last)
    assert result.stderr == ""  # progress is for terminals


def test_the_start_is_another_one_every_time_and_printed() -> None:
    starts = {run("--seeds", "1", "--processes", "1").stdout.splitlines()[0] for _ in range(3)}
    assert len(starts) > 1


@pytest.mark.timeout(300)
def test_several_processes_tell_the_same_as_one() -> None:
    one, two = (
        json.loads(run("--seeds", "12", "--start", "5", "--processes", count, "--json").stdout) for count in ("1", "2")
    )
    assert one.pop("seconds") > 0
    assert two.pop("seconds") > 0
    assert one == two
    assert one["seeds"] == 12


def test_a_failure_ends_with_1_and_leaves_its_story_in_the_folder(tmp_path: Path) -> None:
    with BUGS["two_request_moves"]():
        result = run("--seeds", "2", "--start", "1", "--processes", "1", "--folder", str(tmp_path), "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    seed = told["failed"][0]["seed"]
    assert result.stderr == f"herd simulate: a guarantee was broken: `herd simulate --seed {seed}` repeats it\n"
    story = Path(told["story"])
    assert story == tmp_path / f"simulation-{seed}.txt"
    assert told["failed"][0]["failure"].partition(" ")[2].split()[0] in story.read_text()


def test_one_seed_tells_its_story_if_it_fails(tmp_path: Path) -> None:
    with BUGS["two_request_moves"]():
        result = run("--seed", "1", "--folder", str(tmp_path))
    assert result.exit_code == 1
    assert "FAILURE" in result.stdout
    assert f"the whole story: {tmp_path / 'simulation-1.txt'}" in result.stdout
    assert run("--seed", "1").stdout.startswith("seed 1: all held in ")


def test_one_seed_and_many_is_a_mistake() -> None:
    result = run("--seed", "1", "--seeds", "2")
    assert result.exit_code == 2
    assert "leave out --seeds" in result.stderr


@pytest.mark.parametrize("received", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_without_a_traceback(received: signal.Signals) -> None:
    command = [*HERD, "simulate", "--seeds", "100000", "--processes", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("seeds ")
            if received is signal.SIGINT:
                os.killpg(process.pid, received)  # as a terminal does
            else:
                process.send_signal(received)
            _, error = process.communicate(timeout=40)
        finally:
            process.kill()
    assert (process.returncode, error) == (128 + received, "")
    wait_until(lambda: not _is_any_left(process.pid), "processes of the pool are left", 30.0)


def test_ctrl_c_while_the_processes_start_waits_for_no_world(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Even if it reaches the first process alone, as `kill -INT` does."""
    submit = ProcessPoolExecutor.submit

    def submit_interrupted(pool: ProcessPoolExecutor, *arguments: Any) -> Any:  # as that of the pool
        signal.raise_signal(signal.SIGINT)
        return submit(pool, *arguments)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit_interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run_seeds(1, 100_000, 2))
    assert capfd.readouterr().err == ""


def _is_any_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_module_is_the_same_command() -> None:
    command = [sys.executable, "-m", "herdmaster.simulation", "--seeds", "1", "--start", "3", "--processes", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50, cwd=REPOSITORY)
    assert result.stdout.startswith("seeds 3 to 3\n1 seeds in ")


@pytest.mark.timeout(300)
def test_a_night_is_told_and_every_time_of_its_schedules_accounted_for() -> None:
    story = run("--night", "--seed", "1").stdout.splitlines()
    assert any(line.endswith("schedule backup is stored") for line in story)
    assert any("    backup: task-" in line for line in story)
    assert any(line.endswith("is primary") for line in story[5:])
    accounts = dict(line.split(maxsplit=1) for line in story[story.index("") + 1 :])
    assert accounts.keys() == {"hourly", "often", "backup", "long"}
    assert accounts["hourly"] == "  8 times: 8 tasks".strip()
    assert accounts["often"].endswith(" in a pause")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_time_is_lost_in_twenty_nights() -> None:
    for seed in range(2, 22):
        night = json.loads(run("--night", "--seed", str(seed), "--json").stdout)
        assert night["failure"] is None, seed
        tasks = {each["name"]: (each["due"], each["tasks"]) for each in night["accounts"]}
        assert tasks["hourly"][0] == tasks["hourly"][1], seed
        assert tasks["backup"] == (1, 1), seed
