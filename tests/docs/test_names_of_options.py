"""The documents know every verb of `herd` and every option of a task, and name no option that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from herdmaster.api.options import Options
from herdmaster.cli.program import herd
from tests.docs.links import DOCUMENTS, REPOSITORY

USER_DOCUMENTS = [path for path in DOCUMENTS if path.name not in {"files.md", "CONTRIBUTING.md"}]
GUIDES = sorted((REPOSITORY / "docs" / "guides").glob("*.md"))
TEXT = " ".join(" ".join(path.read_text() for path in USER_DOCUMENTS).split())
OF_OTHER_PROGRAMS = {
    "--server": "our pytest",
    "--as-recorded": "python -m mutation",
    "--for": "python -m mutation",
    "--fork": "mpirun",
    "--init": "docker",
    "--processes": "dramatiq",
    "--threads": "dramatiq",
    "--queues": "dramatiq",
    "--constraint": "pip",
    "--bounding-set": "setpriv",
    "--clear-groups": "setpriv",
    "--no-new-privs": "setpriv",
    "--regid": "setpriv",
    "--reuid": "setpriv",
    "--mount-proc": "unshare",
    "--prefix": "kubectl",
    "--tail": "kubectl",
    "--preload": "gunicorn",
    "--strict": "kubernetes-validate",
    "--now": "systemctl",
    "--retry": "curl",
    "--retry-all-errors": "curl",
    "--retry-delay": "curl",
    "--uds": "uvicorn",
    "--unix-socket": "curl",
    "--workers": "uvicorn",
}


def commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, context)


def test_every_verb_of_herd_is_in_the_documents() -> None:
    with click.Context(herd) as context:
        verbs = herd.list_commands(context)
    assert verbs
    assert [verb for verb in verbs if f"herd {verb}" not in TEXT] == []


def test_every_option_of_a_task_is_in_the_guides() -> None:
    guides = "\n".join(path.read_text() for path in GUIDES)
    assert [name for name in Options.__annotations__ if not re.search(rf"`[^`\n]*\b{name}\b", guides)] == []


def test_every_option_in_the_documents_belongs_to_a_program() -> None:
    with click.Context(herd) as context:
        ours = {
            option
            for command in commands(herd, context)
            for parameter in command.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
    for path in (REPOSITORY / "chaos", REPOSITORY / "benchmarks"):
        for module in path.glob("*.py"):
            ours.update(re.findall(r'"(--[a-z-]+)"', module.read_text()))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT))
    assert named - ours - OF_OTHER_PROGRAMS.keys() - {"--help"} == set()
