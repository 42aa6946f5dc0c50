from pathlib import Path

import pytest

pytest.importorskip("libcst", reason="`make mutants` installs it")
pytest.importorskip("mutmut", reason="`make mutants` installs it")

from mutation.sample import Mutant, draw, drawn_before

SOURCE = "\n".join(f"def f{number}(x):\n    return x + {number}\n" for number in range(2, 12))


def drawn(root: Path, count: int, seed: int) -> list[Mutant]:
    (root / "a.py").write_text(SOURCE, "utf-8")
    (root / "b.py").write_text("def g(x):\n    return x < 1\n", "utf-8")
    return list(draw(root, ["a.py", "b.py"], count, seed))


def test_the_same_seed_draws_the_same_mutants(tmp_path: Path) -> None:
    assert drawn(tmp_path, 5, 1) == drawn(tmp_path, 5, 1)
    assert drawn(tmp_path, 5, 1) != drawn(tmp_path, 5, 2)


def test_each_line_has_one_mutant_at_most(tmp_path: Path) -> None:
    mutants = drawn(tmp_path, 100, 3)

    assert len({(mutant.path, mutant.line) for mutant in mutants}) == len(mutants) == 11


def test_a_mutant_has_its_diff_and_compiles(tmp_path: Path) -> None:
    for mutant in drawn(tmp_path, 11, 4):
        removed, added = mutant.diff.splitlines()
        assert removed.startswith("-    return")
        assert added.startswith("+    return")
        compile(mutant.code, mutant.path, "exec")


def test_a_sample_is_kept_until_a_source_changes(tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "mutation/operators.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("def f(x):\n    return x + 1\n", "utf-8")
    place = tmp_path / "kept.json"
    paths = ["a.py", "b.py"]
    first = drawn_before(place, tmp_path, paths, 2, 7)

    assert first == list(draw(tmp_path, paths, 2, 7))
    assert drawn_before(place, tmp_path, paths, 2, 7) == first
    (tmp_path / "a.py").write_text("def f(x):\n    return x * 2\n", "utf-8")
    second = drawn_before(place, tmp_path, paths, 2, 7)
    assert second == list(draw(tmp_path, paths, 2, 7)) != first
