"""The alert rules, evaluated by promtool on made-up series: each one fires for its cause, and no other does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ALERTS: Final = Path(__file__).parents[2] / "deploy/prometheus/alerts.yaml"

CALM: Final = {
    'herd_primary{instance="a"}': "1x60",
    'herd_primary{instance="b"}': "0x60",
    'herd_workers{state="ready"}': "2x60",
    'herd_slots{state="free"}': "1x60",
    'herd_slots{state="busy"}': "3x60",
    'herd_tasks{queue="mail",state="pending"}': "5x60",
    'herd_queue_oldest_pending_seconds{queue="mail"}': "20x60",
    'herd_task_runs_total{call="shop:send",queue="mail",outcome="done"}': "0+100x60",
    'herd_task_runs_total{call="shop:send",queue="mail",outcome="failed"}': "0+1x60",
    "herd_zookeeper_session_expirations_total": "0x60",
    'herd_zookeeper_request_duration_seconds_bucket{le="0.01",operation="multi"}': "0+100x60",
    'herd_zookeeper_request_duration_seconds_bucket{le="2.5",operation="multi"}': "0+100x60",
    'herd_zookeeper_request_duration_seconds_bucket{le="+Inf",operation="multi"}': "0+100x60",
    'herd_event_loop_lag_seconds{instance="a"}': "0.1x60",
}
"""A cluster that is well, a sample a minute."""

CAUSES: Final[dict[str, Mapping[str, str]]] = {
    "HerdNoPrimary": {'herd_primary{instance="a"}': "0x60"},
    "HerdNoWorkers": {'herd_workers{state="ready"}': "0x60"},
    "HerdBacklogOld": {'herd_queue_oldest_pending_seconds{queue="mail"}': "0+60x60"},
    "HerdFailures": {'herd_task_runs_total{call="shop:send",queue="mail",outcome="failed"}': "0+10x60"},
    "HerdBadSignatures": {'herd_bad_signatures_total{queue="mail"}': "_x50 1x9"},
    "HerdScheduleBroken": {'herd_schedule_ticks_total{schedule="nightly",result="broken"}': "_x50 1x9"},
    "HerdWorkersLost": {'herd_recoveries_total{reason="worker lost"}': "_x50 12x9"},
    "HerdSlotsFull": {'herd_slots{state="free"}': "0x60"},
    "HerdSessionsExpire": {"herd_zookeeper_session_expirations_total": "0x50 5x9"},
    "HerdZooKeeperSlow": {
        'herd_zookeeper_request_duration_seconds_bucket{le="0.01",operation="multi"}': "0+90x60",
    },
    "HerdEventLoopLag": {'herd_event_loop_lag_seconds{instance="a"}': "3x60"},
}
"""What differs from the calm when an alert is to fire; of a counter that did not exist before, its first value."""

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")


def case(firing: list[str], changes: Mapping[str, str]) -> dict[str, Any]:
    """A test of promtool: these alerts, and no other, fire at the end of the hour."""
    return {
        "interval": "1m",
        "input_series": [{"series": series, "values": values} for series, values in {**CALM, **changes}.items()],
        "promql_expr_test": [{
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": "59m",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing],
        }],
    }  # fmt: skip


def test_every_alert_has_its_cause() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]

    assert [rule["alert"] for rule in group["rules"]] == list(CAUSES)


@pytest.mark.long
def test_each_alert_fires_for_its_cause_and_no_other_does(tmp_path: Path) -> None:
    cases = [case([], {}), *(case([name], changes) for name, changes in CAUSES.items())]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": cases}))

    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
