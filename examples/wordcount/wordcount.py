"""Counts the words of many text files on as many workers as there are.

herd worker --app wordcount          (in this folder, as often as you like)
python -m wordcount /usr/share/doc   (in this folder)
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from herdmaster import Herd

herd = Herd()  # $HERD_ZOOKEEPER, else 127.0.0.1:2181


@herd.task
def count_words(path: str) -> dict[str, int]:
    """Runs on a worker: its argument goes there as JSON, its result comes back as JSON."""
    text = Path(path).read_text("utf-8", "replace")
    return Counter(re.findall("[a-z]+", text.lower()))


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/doc")
    files = sorted(str(path) for path in folder.rglob("copyright") if path.is_file())
    total: Counter[str] = Counter()
    with herd:
        for words in count_words.map(files):  # submits ahead of what has come back, results are in order
            total.update(words)
    for word, count in total.most_common(10):
        print(f"{count:>10,}  {word}")


if __name__ == "__main__":
    main()
