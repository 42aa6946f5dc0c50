"""The files in `deploy/`, checked as far as a machine without their engines can."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from herdmaster.cli.program import herd
from herdmaster.monitoring.gauges import GAUGES
from herdmaster.monitoring.metrics import Metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
METRIC = re.compile(r"\bherd_[a-z_]+")


def known_metrics() -> set[str]:
    names = set(GAUGES)
    for family in Metrics().registry.collect():
        names |= {f"{family.name}_total"} if family.type == "counter" else set()
        names |= {f"{family.name}_{end}" for end in ("bucket", "sum", "count")} if family.type == "histogram" else set()
    return names


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


@pytest.mark.parametrize("name", ["prometheus/alerts.yaml", "grafana/herdmaster.json"])
def test_every_metric_that_is_named_exists(name: str) -> None:
    named = set(METRIC.findall((DEPLOY / name).read_text()))

    assert named
    assert named <= known_metrics()


def test_every_alert_has_its_place_in_the_runbook() -> None:
    (file,) = documents("prometheus/alerts.yaml")
    headings = {line.removeprefix("## ").strip() for line in (ROOT / "docs/runbook.md").read_text().splitlines()}
    for rule in (rule for group in file["groups"] for rule in group["rules"]):
        assert rule["alert"] in headings
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert {"expr", "labels"} <= rule.keys()


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    dashboard = json.loads((DEPLOY / "grafana/herdmaster.json").read_text())
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def commands() -> list[list[str]]:
    """Every `herd` command line in the files."""
    found = [
        line.removeprefix("ExecStart=").split()[1:]
        for unit in sorted((DEPLOY / "systemd").glob("*.service"))
        for line in unit.read_text().splitlines()
        if line.startswith("ExecStart=")
    ]
    for name in ("kubernetes/masters.yaml", "kubernetes/workers.yaml"):
        found += [document["spec"]["template"]["spec"]["containers"][0]["args"]
                  for document in documents(name) if document["kind"] == "Deployment"]  # fmt: skip
    services = documents("compose/compose.yaml")[0]["services"]
    return found + [services[name]["command"] for name in ("master", "worker")]


def test_every_command_line_has_options_that_exist() -> None:
    for arguments in commands():
        command = herd.get_command(click.Context(herd), arguments[0])
        assert command is not None
        known = {name for parameter in command.params for name in parameter.opts}
        assert {each for each in arguments if each.startswith("--")} <= known


def test_every_stop_leaves_time_to_drain() -> None:
    (workers,) = documents("kubernetes/workers.yaml")
    pod = workers["spec"]["template"]["spec"]
    drain = float(option(pod["containers"][0]["args"], "--drain-timeout"))
    assert pod["terminationGracePeriodSeconds"] >= drain + 10
    unit = (DEPLOY / "systemd/herd-worker@.service").read_text()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
    assert float(stop) >= drain + 10
    worker = documents("compose/compose.yaml")[0]["services"]["worker"]
    assert (
        float(worker["stop_grace_period"].removesuffix("s")) >= float(option(worker["command"], "--drain-timeout")) + 10
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
@pytest.mark.parametrize("unit", ["herd-master.service", "herd-worker@.service"])
def test_systemd_understands_the_units(tmp_path: Path, unit: str) -> None:
    text = (DEPLOY / "systemd" / unit).read_text().replace("/opt/herdmaster/venv/bin/herd", "/bin/true")
    name = unit.replace("@", "@1")
    (tmp_path / name).write_text(text.replace("WorkingDirectory=/opt/herdmaster", "WorkingDirectory=/tmp"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / name], capture_output=True, text=True, check=False
    )

    assert (done.returncode, [line for line in done.stderr.splitlines() if "herd" in line]) == (0, [])


def test_the_example_of_the_environment_has_every_variable_of_the_units() -> None:
    units = [unit.read_text() for unit in sorted((DEPLOY / "systemd").glob("*.service"))]
    used = {name for unit in units for name in re.findall(r"\$\{(\w+)\}", unit)} | {"HERD_ZOOKEEPER"}
    lines = (DEPLOY / "systemd/herd.env").read_text().splitlines()

    assert {line.partition("=")[0] for line in lines if not line.startswith("#")} == used
    assert all("EnvironmentFile=/etc/herdmaster/herd.env" in unit for unit in units)


def test_every_worker_of_a_machine_has_a_port() -> None:
    unit = (DEPLOY / "systemd/herd-worker@.service").read_text()
    (template,) = re.findall(r"--listen 127\.0\.0\.1:(\S+)", unit)
    instances = re.findall(r"herd-worker@(\d+)", unit)

    assert instances
    assert all(1024 < int(template.replace("%i", instance)) < 32768 for instance in instances)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on this machine")
def test_kustomize_puts_the_manifests_together() -> None:
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / "kubernetes"], capture_output=True, text=True, check=True)

    kinds = sorted(document["kind"] for document in yaml.safe_load_all(done.stdout))
    assert kinds == [
        "ConfigMap", "Deployment", "Deployment", "Namespace", "PodDisruptionBudget", "ScaledObject", "Service",
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="no docker-compose on this machine")
def test_compose_takes_the_file() -> None:
    """It compares the file with the schema of the Compose specification, and needs no engine for that."""
    command = ["docker-compose", "--file", str(DEPLOY / "compose/compose.yaml"), "config", "--services"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert sorted(done.stdout.split()) == ["master", "worker", "zk1", "zk2", "zk3"]
