from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.printable import printable


def test_characters_that_steer_a_terminal_are_shown_as_escapes() -> None:
    assert printable("a\x1b[2J\nb\u202ec\udc80") == "a\\x1b[2J\\nb\\u202ec\\udc80"


def test_ordinary_text_is_left_as_it_is() -> None:
    assert printable("Größe: 5 µm, 数") == "Größe: 5 µm, 数"


def test_text_is_cut_to_its_limit() -> None:
    assert printable("x" * 10, 3) == "xxx"


@given(st.text(st.characters()))
def test_the_result_is_printable_and_can_be_encoded(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    shown.encode()
