from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from herdmaster.core.printable import escaped, escaped_json, indented, printable


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


@given(st.text(st.characters()), st.booleans())
def test_what_is_escaped_cannot_steer_a_terminal_and_keeps_its_lines(text: str, keeps_colours: bool) -> None:
    shown = escaped(text, keeps_colours=keeps_colours)

    assert not set("\r\x0b\x07\x9b\x85\u2028\u202e") & set(shown)
    assert "\x1b" not in shown or keeps_colours
    assert shown.count("\n") == text.count("\n")
    shown.encode()


def test_lines_after_the_first_are_indented() -> None:
    assert indented("a\nb\n") == "a\n  b\n  "


@given(st.text())
def test_json_steers_no_terminal_and_means_the_same(text: str) -> None:
    shown = escaped_json(json.dumps({text: [text]}, ensure_ascii=False).encode("utf-8", "surrogatepass"))

    assert not set("\x7f\x9b\x85\u2028\u202e\x1b\n") & set(shown)
    assert json.loads(shown) == {text: [text]}
