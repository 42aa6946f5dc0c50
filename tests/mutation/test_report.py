import io
from dataclasses import replace
from pathlib import Path

from mutation import report
from mutation.report import Result

KILLED = Result("a.py", 3, "number", "-x = 1\n+x = 2", "killed", "tests/test_a.py::test_x", 4, 1.0)
SURVIVED = Result("a.py", 5, "condition", "-if x:\n+if not x:", "survived", "", 4, 9.0)
EQUIVALENT = Result("b.py", 5, "return", "-return x\n+return None", "equivalent", "never read", 0, 0.0)


def test_a_run_that_goes_on_knows_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    report.Results(path).add(KILLED)
    results = report.Results(path)

    assert results.of("a.py", KILLED.diff, 3) == KILLED
    assert results.of("a.py", SURVIVED.diff, 5) is None


def test_the_latest_word_about_a_mutant_counts(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    results = report.Results(path)
    results.add(SURVIVED)
    results.add(replace(SURVIVED, state="killed"))

    found = report.Results(path).of("a.py", SURVIVED.diff, 5)

    assert found is not None
    assert found.state == "killed"


def test_the_share_leaves_out_what_is_equivalent_and_counts_time_limits_as_noticed() -> None:
    told = report.summary([KILLED, replace(KILLED, state="timeout"), SURVIVED, EQUIVALENT], seed=7, sample=4)

    assert (told["killed"], told["timeout"], told["survived"], told["equivalent"]) == (1, 1, 1, 1)
    assert told["share"] == round(2 / 3, 4)


def test_survivors_are_written_with_their_diffs() -> None:
    out = io.StringIO()
    report.write([KILLED, SURVIVED], seed=7, sample=2, out=out)

    assert "survived: a.py:5 (condition; 4 tests)\n-if x:\n+if not x:\n" in out.getvalue()
    assert "seed 7: 2 of 2 mutants: 1 killed, 0 timed out, 1 survived" in out.getvalue()
    assert "50.0% noticed" in out.getvalue()


def test_a_sample_without_results_has_no_share() -> None:
    out = io.StringIO()
    report.write([], seed=7, sample=2, out=out)

    assert "nothing judged" in out.getvalue()
