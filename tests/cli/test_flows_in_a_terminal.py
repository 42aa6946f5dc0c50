"""`herd flows` in a terminal: Ctrl-C, questions and exit codes."""

from __future__ import annotations

import os
import pty
import select
import signal
from collections.abc import Callable
from typing import Final

import pytest
from click.testing import CliRunner

from herdmaster.cli.program import herd
from herdmaster.core.flows import FlowState
from herdmaster.roles.shared.bootstrap import make_folders
from herdmaster.zookeeper.client import Client
from tests.cli.processes import HERD
from tests.flow_scene import CREATED, FLOW, FlowScene
from tests.pools.process_setting import is_asleep

pytestmark = pytest.mark.long

ENDED: Final = "flow-01kb5w3a0000000000000000zz"
CTRL_C: Final = b"\x03"
SECONDS: Final = 40


@pytest.fixture
async def hosts(namespace: str) -> str:
    """A namespace with a flow that runs and one that has failed, and without a master."""
    async with Client(namespace) as zk:
        await make_folders(zk)
        await FlowScene(zk, {"0": "fetch"}).begin().live("0").write()
        await FlowScene(zk, {"0": "fetch"}, flow=ENDED).begin(FlowState.FAILED, ended=CREATED + 1).failed("0").write()
    return namespace


def type_into(keys: bytes, is_ready: Callable[[str], bool], *arguments: str) -> tuple[int, str]:
    """Run a command in a terminal, and type when its output is as wanted and it sleeps: a signal that comes between the
    prompt and the read that follows is handled after that read (CPython). Return its exit code and its output."""
    process, terminal = pty.fork()
    if process == 0:
        signal.alarm(SECONDS)
        os.execv(HERD[0], [*HERD, *arguments])
    output, is_typed = "", False
    try:
        while True:
            if is_typed or select.select([terminal], [], [], 0.05)[0]:
                output += os.read(terminal, 4096).decode()
            if not is_typed and is_ready(output) and is_asleep(process):
                os.write(terminal, keys)
                is_typed = True
    except OSError:  # what Linux says when the command has closed the terminal
        pass
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), output.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (("wait", ENDED, FLOW), f"{ENDED}: failed\n"),
        (("cancel", FLOW, "--timeout", "1h"), "cancelling"),
        (("remove", FLOW, "--force", "--yes"), "cancelling"),
        (("retry", ENDED, "--wait"), "1 retry"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_ctrl_c_ends_a_command_that_waits(hosts: str, command: tuple[str, ...], shown: str) -> None:
    def is_ready(output: str) -> bool:
        return (
            shown in output.replace("\r\n", "\n") or shown in CliRunner().invoke(herd, ["flows", "list", hosts]).stdout
        )

    code, output = type_into(CTRL_C, is_ready, "flows", *command, "--zookeeper", hosts)
    assert (code, output.removeprefix(shown)) == (130, "^C")


@pytest.mark.parametrize(
    ("keys", "code", "said"),
    [(CTRL_C, 130, ""), (b"n\n", 1, "Aborted!"), (b"\x04", 1, "confirm with --yes"), (b"y\n", 0, f"{ENDED}: removed")],
    ids=["ctrl-c", "no", "end of input", "yes"],
)
def test_a_removal_is_confirmed(hosts: str, keys: bytes, code: int, said: str) -> None:
    shown = type_into(keys, lambda output: "[y/N]: " in output, "flows", "remove", ENDED, ENDED, "--zookeeper", hosts)
    assert f"Remove {ENDED} with all results?" in shown[1]
    assert (shown[0], said in shown[1]) == (code, True), shown[1]
