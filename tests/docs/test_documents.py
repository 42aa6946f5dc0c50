"""Every command and every program in the documents does what the documents say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.document import Section, Shell, matches, sections

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SECTIONS = [
    pytest.param(section, id=f"{path.name}: {section.title}")
    for path in DOCUMENTS
    for section in sections(path.read_text())
]


@pytest.mark.long
@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.timeout(300)
def test_the_commands_of_a_section_print_what_it_says(section: Section, namespace: str, tmp_path: Path) -> None:
    for name, content in section.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    with Shell(tmp_path, namespace) as shell:
        for step in section.steps:
            printed = shell.run(step.command, seconds=120)
            assert matches(printed, step.expected), f"$ {step.command}\n{printed}\n--- document: ---\n{step.expected}"


def test_the_readme_shows_the_make_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (REPOSITORY / "README.md").read_text()))
    assert named <= targets
