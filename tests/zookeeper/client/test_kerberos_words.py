"""What is said of an error of GSSAPI."""

from __future__ import annotations

import pytest

from herdmaster.zookeeper.client.kerberos import _words


class Error(Exception):
    maj_code, min_code = 1, 2

    def __init__(self, *, minor: list[str], major: list[str]) -> None:
        super().__init__("as it prints itself")
        self._texts = {(self.min_code, False): minor, (self.maj_code, True): major}

    def get_all_statuses(self, code: int, is_general: bool) -> list[str]:
        return self._texts[code, is_general]


@pytest.mark.parametrize(
    ("minor", "major", "words"),
    [
        (["no ticket", "x"], ["failure"], "no ticket"),
        (["", "no key"], ["failure"], "no key"),
        ([""], ["failure"], "failure"),
        ([], [], "as it prints itself"),
    ],
)
def test_the_mechanisms_text_comes_first(minor: list[str], major: list[str], words: str) -> None:
    assert _words(Error(minor=minor, major=major)) == words
