"""Fuzz one parser after another, guided by the code that an input reaches: `python -m tests.fuzz SECONDS [PARSER ...]`.

Needs atheris (`make fuzz-parsers` installs it). What it finds new is kept in build/fuzz, and an input that breaks a
parser is printed and kept there as `crash-...`. Put such an input into the parser's folder of tests/fuzz/corpus.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
_FOUND = _REPOSITORY / "build" / "fuzz"
_MAX_LENGTH = 4096
_INPUT_SECONDS = 5


def fuzz_all(seconds: int, names: list[str]) -> int:
    """Fuzz each parser in a process of its own. Return how many were broken."""
    from tests.fuzz.parsers import PARSERS

    broken = 0
    for parser in PARSERS:
        if names and parser.name not in names:
            continue
        command = [sys.executable, "-m", "tests.fuzz", "one", parser.name, str(seconds)]
        ended = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, check=False)
        summary = [line for line in ended.stderr.splitlines() if "DONE" in line]
        held = "broken" if ended.returncode else "held"
        sys.stdout.write(f"{parser.name}: {held}  {' '.join(summary[:1])}\n")
        if ended.returncode:
            broken += 1
            sys.stdout.write(f"{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}\n")
        sys.stdout.flush()
    return broken


def fuzz_one(name: str, seconds: int) -> None:
    """Fuzz one parser in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["herdmaster"]):
        from tests.fuzz.parsers import CORPUS, PARSERS

        (parser,) = (each for each in PARSERS if each.name == name)
    found = _FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={_MAX_LENGTH}", f"-timeout={_INPUT_SECONDS}"]
    atheris.Setup(
        [sys.argv[0], *options, f"-artifact_prefix={_FOUND}/crash-{name}-", str(found), str(CORPUS / name)],
        parser.try_on,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "one":
        fuzz_one(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(min(1, fuzz_all(int(sys.argv[1]), sys.argv[2:])))
