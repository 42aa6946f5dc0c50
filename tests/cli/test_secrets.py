"""No password stands in anything that a failing command prints, whichever way it came in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.testing.ports import free_ports
from herdmaster.zookeeper.secret import Secret
from herdmaster.zookeeper.server import EmbeddedServer
from herdmaster.zookeeper.server.settings import Access
from tests.cli.processes import run_herd
from tests.zookeeper.server.threaded import ServerThread

pytestmark = pytest.mark.long

MARKER = "x5Marker"
"""The password, or a part of it. Nothing else has it in its name."""

APP = """
from pathlib import Path

from herdmaster import Digest, Herd, Sasl

herd = Herd(auth=AUTH)


@herd.task
def nothing() -> None: ...
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[str]:
    """A server that wants SASL, and knows another password of the user."""
    access = Access({"al": Secret(b"another")}, ("sasl",))
    with ServerThread(EmbeddedServer(access=access)) as server:
        yield f"127.0.0.1:{server.port}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "whole").write_text(f"al:{MARKER}\n")
    (tmp_path / "password").write_text(f"{MARKER}\n")
    (tmp_path / "spoilt").write_text(f"{MARKER}\n{MARKER}\n")
    return tmp_path


def printed(folder: Path, *arguments: str, **variables: str) -> str:
    """What a command printed; it failed."""
    done = run_herd(*arguments, folder=folder, environment={"PYTHONASYNCIODEBUG": "1", **variables})
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert output.strip(), "a failure without a word"
    assert "Traceback" not in output
    return output


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"HERD_AUTH_SASL": f"al:{MARKER}"}, []),
        ({"HERD_AUTH_SASL": MARKER}, []),
        ({"HERD_AUTH_SASL_FILE": "whole"}, []),
        ({"HERD_AUTH_DIGEST": f"al:{MARKER}"}, []),
        ({}, ["--auth-sasl-file", "whole"]),
        ({}, ["--auth-digest-file", "whole"]),
        ({}, ["--auth-sasl-file", "spoilt"]),
        ({}, ["--auth-sasl-file", "password"]),
    ],
    ids=" ".join,
)
def test_a_command_whose_password_is_wrong_or_unreadable_shows_none(
    hosts: str, folder: Path, variables: dict[str, str], options: list[str]
) -> None:
    output = printed(folder, "status", "--zookeeper", hosts, "--log-level", "debug", *options, **variables)
    assert MARKER not in output
    assert output.count("herd status: ") == 1, output


@pytest.mark.parametrize("role", ["master", "worker"])
def test_a_role_whose_password_is_wrong_ends_with_one_error_and_shows_none(hosts: str, folder: Path, role: str) -> None:
    output = printed(folder, role, hosts, "--auth-sasl-file", "whole", "--log-level", "debug")
    assert MARKER not in output
    assert output.count("user or password is wrong") == 1, output


@pytest.mark.parametrize(
    "auth",
    [
        f"Sasl('al', '{MARKER}')",
        f"Sasl('al', lambda: '{MARKER}')",
        "Sasl('al', Path('password'))",
        "Sasl('al', lambda: 1 / 0)",
        f"Digest('al', '{MARKER}')",
        f"'al:{MARKER}'",
        f"Sasl(b'{MARKER}', '{MARKER}')",
    ],
)
def test_a_submission_of_an_app_with_a_wrong_password_shows_none(hosts: str, folder: Path, auth: str) -> None:
    (folder / "shop.py").write_text(APP.replace("AUTH", auth))
    done = run_herd(
        "submit", "--zookeeper", hosts, "shop:nothing", "--connect-timeout", "3", "--log-level", "debug", folder=folder
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    # An app that cannot be imported is shown with its source line, which is the app's own.
    shown = "\n".join(line for line in output.splitlines() if "herd = Herd(auth=" not in line)
    assert MARKER not in shown


def test_a_server_whose_file_of_users_is_spoilt_shows_none(folder: Path) -> None:
    output = printed(folder, "zookeeper", "--port=0", "--sasl-users", "spoilt", "--log-level", "debug")
    assert MARKER not in output
    assert "line 1 is not user:password" in output


def test_no_server_at_all(folder: Path) -> None:
    (port,) = free_ports(1)
    output = printed(
        folder, "status", "--zookeeper", f"127.0.0.1:{port}", "--connect-timeout", "1", "--log-level", "debug",
        HERD_AUTH_SASL=f"al:{MARKER}", HERD_AUTH_DIGEST=f"al:{MARKER}",
    )  # fmt: skip
    assert MARKER not in output
