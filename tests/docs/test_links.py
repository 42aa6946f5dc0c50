"""Every link in the documents leads somewhere, and every file that they name is there."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.links import DOCUMENTS, REPOSITORY, anchors, named_files, targets, undefined_references

EACH_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))


def is_external(target: str) -> bool:
    return urlsplit(target).scheme != ""


def broken(path: Path, target: str) -> str:
    """What is wrong with a link to a file or an anchor, or "" if nothing is."""
    name, _, anchor = unquote(target).partition("#")
    file = (path.parent / name).resolve() if name else path
    if not file.exists():
        return f"{target}: there is no such file"
    if not file.is_relative_to(REPOSITORY):
        return f"{target}: leads out of the repository"
    if anchor and anchor not in anchors(file.read_text()):
        return f"{target}: there is no such heading"
    return ""


@EACH_DOCUMENT
def test_every_link_to_a_file_or_a_heading_leads_there(path: Path) -> None:
    inside = [target for target in targets(path.read_text()) if not is_external(target)]
    assert [fault for target in inside if (fault := broken(path, target))] == []


@EACH_DOCUMENT
def test_every_reference_in_brackets_is_defined(path: Path) -> None:
    assert undefined_references(path.read_text()) == []


@EACH_DOCUMENT
def test_every_external_link_is_a_whole_address(path: Path) -> None:
    for target in filter(is_external, targets(path.read_text())):
        parts = urlsplit(target)
        assert parts.scheme == "https", target
        assert "." in (parts.hostname or ""), target
        assert not parts.username, target
        assert not target.endswith((".", ",", ")")), target
        assert "/herdmaster/" not in f"{parts.path}/", f"{target}: link to our own files by their paths"


@EACH_DOCUMENT
def test_every_python_file_that_is_named_is_there(path: Path) -> None:
    if path.parent.name == "decisions":
        return  # dated: files that it names may have moved since
    roots = (REPOSITORY, REPOSITORY / "src" / "herdmaster", REPOSITORY / "docs", path.parent)
    named = set(named_files(path.read_text()))
    assert {name for name in named if not any((root / name).exists() for root in roots)} == set()


def test_a_link_that_leads_nowhere_is_found() -> None:
    text = "# A *b*, c\n[x](y.md#a-b) [u][v] ![p](q.svg)\n\n[Z-1] [u][w] `[no](link)`\n\n[v]: https://example.org/\n"
    assert targets(text) == ["y.md#a-b", "q.svg", "https://example.org/"]
    assert undefined_references(text) == ["Z-1", "w"]
    assert anchors(text) == {"a-b-c"}
    readme = REPOSITORY / "README.md"
    assert broken(readme, "nowhere.md") == "nowhere.md: there is no such file"
    assert broken(readme, "#nothing-like-it") == "#nothing-like-it: there is no such heading"
    assert broken(readme, "../elsewhere.md") != ""
    assert broken(readme, "CHANGELOG.md#unreleased") == ""
