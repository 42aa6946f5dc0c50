"""What the result is checked against: a process that knows nothing of the cluster counts the same files, one by one.

It runs beside the cluster and at the lowest priority, so it takes the time in which the cluster waits.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from herdmaster.cli.demo.counting import count_plainly
from herdmaster.cli.failures import Failed
from herdmaster.testing.child import WatchedChild

if TYPE_CHECKING:
    from herdmaster.cli.demo.display import Display

_FILES: Final = "files.json"
_WORDS: Final = "words.json"
_LOG: Final = "log"
_LOWEST_PRIORITY: Final = 19
_LOOK_SECONDS: Final = 0.02


class PlainLoop:
    """The process, as the code that waits for it sees it."""

    def __init__(self, files: list[str]) -> None:
        self._total = len(files)
        self._temporary = tempfile.TemporaryDirectory(prefix="herd-demo-", ignore_cleanup_errors=True)
        self._folder = Path(self._temporary.name)
        (self._folder / _FILES).write_bytes(msgspec.json.encode(files))
        command = [sys.executable, "-m", __name__, str(self._folder)]
        self._child = WatchedChild(command, log=self._folder / _LOG, remove=self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._temporary.cleanup()

    @property
    def counted(self) -> int:
        """How many files it is through with."""
        return min((self._folder / _LOG).stat().st_size, self._total)

    def wait(self, display: Display) -> Counter[str]:
        """How often each word stands in the files. The display shows how far it is. Raises Failed if it could not."""
        if (words := self.words()) is None:
            display.say("a plain loop still counts the same files, to compare")
            display.begin(self._total)
        while words is None:
            display.advance(self.counted)
            time.sleep(_LOOK_SECONDS)
            words = self.words()
        display.end()
        return words

    def words(self) -> Counter[str] | None:
        """None while it counts. Raises Failed if it could not."""
        if self._child.is_running:
            return None
        try:
            return Counter(msgspec.json.decode((self._folder / _WORDS).read_bytes(), type=dict[str, int]))
        except FileNotFoundError:
            said = (self._folder / _LOG).read_text("utf-8", "replace").strip().rpartition("\n")[2]
            raise Failed(f"the plain loop ended by itself: {said}", "herd demo") from None


def main(folder: Path) -> None:
    """The process. Its log gets a character for each file that it is through with."""
    os.nice(_LOWEST_PRIORITY)
    files = msgspec.json.decode((folder / _FILES).read_bytes(), type=list[str])
    words = msgspec.json.encode(count_plainly(_marked(files)))
    half = folder / f"{_WORDS}.half"
    half.write_bytes(words)
    half.rename(folder / _WORDS)


def _marked(files: Iterable[str]) -> Iterator[str]:
    for file in files:
        yield file
        sys.stdout.write(".")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
