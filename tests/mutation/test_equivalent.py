from pathlib import Path

import pytest

from mutation import equivalent, tree

ENTRIES = """
[[equivalent]]
path = "a.py"
diff = '''
-    x = 64
+    x = 65
'''
reason = "a hint for memory"
"""


@pytest.fixture
def listed(tmp_path: Path) -> equivalent.Equivalents:
    path = tmp_path / "equivalent.toml"
    path.write_text(ENTRIES, "utf-8")
    return equivalent.load(path)


def test_an_entry_counts_for_its_change_however_it_is_indented(listed: equivalent.Equivalents) -> None:
    assert listed.reason("a.py", "-        x = 64\n+        x = 65") == "a hint for memory"
    assert listed.reason("a.py", "-    x = 64\n+    x = None") is None
    assert listed.reason("b.py", "-    x = 64\n+    x = 65") is None


def test_an_entry_whose_line_has_gone_is_outdated(listed: equivalent.Equivalents, tmp_path: Path) -> None:
    assert len(listed.outdated(tmp_path)) == 1
    (tmp_path / "a.py").write_text("def f():\n    x = 64\n", "utf-8")
    assert listed.outdated(tmp_path) == []


def test_every_entry_of_the_list_is_about_a_module_that_is_mutated() -> None:
    entries = equivalent.load().entries

    assert {entry.path for entry in entries} <= set(tree.modules())
    assert all(entry.reason for entry in entries)
