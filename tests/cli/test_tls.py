"""Commands over TLS: the options of the server and of everything that connects to it."""

from __future__ import annotations

import signal
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from herdmaster import TLS, Future, Herd
from herdmaster.api.internals import core_of
from herdmaster.api.security import GivenSecurity
from herdmaster.cli.program import herd
from herdmaster.cli.session import Session
from herdmaster.testing.embedded import EmbeddedZooKeeper
from herdmaster.testing.ports import free_ports
from tests.authority import Authority, Issued
from tests.cli.directed_app import USED_ALL
from tests.cli.processes import HerdProcess, run_herd

pytestmark = pytest.mark.long

APP = "tests.cli.directed_app"


def options_of(issued: Issued) -> list[str]:
    return [f"--tls-ca={issued.ca}", f"--tls-certificate={issued.certificate}", f"--tls-key={issued.key}"]


def environment_of(issued: Issued) -> dict[str, str]:
    return {
        "HERD_TLS_CA": str(issued.ca),
        "HERD_TLS_CERTIFICATE": str(issued.certificate),
        "HERD_TLS_KEY": str(issued.key),
    }


@pytest.mark.timeout(300)
def test_all_of_a_deployment_runs_over_tls(authority: Authority, tmp_path: Path) -> None:
    """The worker's app names other servers and knows nothing of TLS: its processes inherit both from the worker."""
    own, server = options_of(authority.client), authority.server
    with (
        HerdProcess(
            "zookeeper", "--port=0", f"--tls-certificate={server.certificate}", f"--tls-key={server.key}",
            f"--tls-client-ca={authority.ca}",
        ) as zookeeper,
    ):  # fmt: skip
        line = zookeeper.wait_for_log("serving on")
        check_deployment(f"{line.split('serving on ')[1].split(' with TLS')[0]}/all", authority, own, tmp_path)


def check_deployment(hosts: str, authority: Authority, own: list[str], tmp_path: Path) -> None:
    with (
        HerdProcess("master", hosts, *own) as master,
        HerdProcess(
            "worker", hosts, *own, f"--app={APP}:herd", "--slots=8", "--processes=2",
            environment={"DIRECTED_DIARY": str(tmp_path / "diary")},
        ) as worker,
    ):  # fmt: skip
        worker.wait_for_log("is ready")
        with Herd(hosts, tls=authority.client.tls()) as client:
            for way in ("in_process", "in_subprocess"):
                future: Future[object] = client.submit_call(
                    f"{APP}:{way}", queue="watched" if way == "in_process" else "default"
                )
                assert str(future.result(60)).strip() == str(USED_ALL)
        submitted = run_herd("submit", "--zookeeper", hosts, *own, "--unchecked", "--wait", f"{APP}:double", "4")
        assert (submitted.stdout, submitted.stderr) == ("8\n", "")
        status = run_herd("status", hosts, "--json", environment=environment_of(authority.client))
        assert len(msgspec.json.decode(status.stdout)["workers"]) == 1
        waited = run_herd("submit", "--zookeeper", hosts, *own, "--unchecked", f"{APP}:double", "5")
        assert "done" in run_herd("tasks", "wait", waited.stdout.strip(), "--zookeeper", hosts, *own).stdout
        seen = run_herd("doctor", hosts, *own, "--json")
        assert [msgspec.json.decode(line)["severity"] for line in seen.stdout.splitlines()] == ["note"] * 2, seen.stdout
        lost = run_herd("doctor", hosts, "--connect-timeout=1", f"--tls-ca={authority.ca}")
        assert "the server refused a client without a certificate" in lost.stderr
        assert lost.returncode == 2
        for role in (worker, master):
            role.send(signal.SIGTERM)
            assert role.wait() == 0


def test_a_server_of_the_command_line_has_a_plain_port_and_one_for_tls(authority: Authority) -> None:
    (secure,) = free_ports(1)
    files = [f"--tls-certificate={authority.server.certificate}", f"--tls-key={authority.server.key}"]
    with HerdProcess("zookeeper", "--port=0", f"--secure-port={secure}", *files) as server:
        line = server.wait_for_log("serving on")
        assert f"and with TLS on 127.0.0.1:{secure}, in memory" in line
        plain = line.split("serving on ")[1].split(",")[0]
        for options in ([plain], [f"127.0.0.1:{secure}", f"--tls-ca={authority.ca}"]):
            shown = run_herd("status", *options)
            assert (shown.returncode, shown.stderr) == (0, "")
        taken = run_herd("zookeeper", "--port=0", f"--secure-port={secure}", *files)
        assert taken.returncode == 1
        assert taken.stderr.endswith("another process uses the port; choose another with --secure-port\n")


@pytest.mark.parametrize(
    "command",
    [["master"], ["submit", "--unchecked", "a:b"]],
)
def test_a_file_that_cannot_be_used_ends_every_command(command: list[str], tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    result = run_herd(*command, "--zookeeper=127.0.0.1:1", f"--tls-ca={missing}")
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].endswith(
        f"CA file {missing} (--tls-ca) cannot be read: no such file or directory"
    )
    assert "Traceback" not in result.stderr


def test_no_host_name_check_warns_each_time(authority: Authority, tmp_path: Path) -> None:
    elsewhere = authority.issue("elsewhere", hosts=("DNS:elsewhere",))
    with EmbeddedZooKeeper(tls=elsewhere.tls(ca=None)) as server:
        own = ["status", server.hosts, f"--tls-ca={authority.ca}"]
        refused = run_herd(*own, "--connect-timeout=1")
        assert refused.returncode == 1
        assert "the server's certificate is not for '127.0.0.1'" in refused.stderr
        for _ in range(2):
            taken = run_herd(*own, "--tls-no-host-name-check")
            assert taken.returncode == 0
            assert "the host name of the servers is not verified" in taken.stderr
        assert run_herd(*own, "--tls-server-name=elsewhere").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--no-tls", "--tls-ca=x"], "--no-tls is given together with other options for TLS"),
        (["zookeeper", "--secure-port=1"], "TLS needs --tls-certificate"),
        (["zookeeper", "--tls-client-ca=x"], "TLS needs --tls-certificate"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(herd, arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_options_come_before_the_app_and_the_app_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    named = Herd("zk:1", tls=TLS(ca="app.pem"))
    unnamed = Herd("zk:1")
    given = GivenSecurity(TLS(ca="option.pem"))
    monkeypatch.setenv("HERD_TLS_CA", "variable.pem")

    def ca_of(app: Herd | None, security: GivenSecurity | None = None) -> object:
        core = None if app is None else core_of(app)
        tls = Session(None, None, 1.0, security).find_target(core).security.tls
        return None if tls is None else tls.ca

    assert ca_of(named) == "app.pem"
    assert ca_of(unnamed) == ca_of(None) == "variable.pem"
    assert ca_of(named, given) == ca_of(None, given) == "option.pem"
    assert ca_of(named, GivenSecurity(None)) is None
    assert ca_of(Herd("zk:1", tls=False)) is None
    monkeypatch.setenv("HERD_TLS", "0")
    assert ca_of(None) is None
    monkeypatch.setenv("HERD_TLS", "yes")
    with pytest.raises(ValueError, match=r"\$HERD_TLS is 'yes': it takes 1 or 0"):
        ca_of(None)
