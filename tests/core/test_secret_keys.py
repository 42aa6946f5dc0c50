"""Secrets by their ids: what is refused, and that no error shows a part of one."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from herdmaster.core.secret_keys import SecretKeys
from herdmaster.errors import ConfigurationError

GOOD = b"topsecret" * 9


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "a mapping of ids to secrets"),
        ([GOOD], "a mapping of ids to secrets"),
        ({"a b": GOOD}, "1 to 64 letters"),
        ({"a" * 65: GOOD}, "1 to 64 letters"),
        ({5: GOOD}, "1 to 64 letters"),
        ({"a": b"topsecret"}, "test key a has 9 bytes: it takes at least 32"),
        ({"a": "topsecret" * 9}, "is bytes, or a function"),
    ],
)
def test_keys_that_cannot_work_are_refused_without_a_word_of_the_secret(keys: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        SecretKeys(keys, "test")
    assert "topsecret" not in str(caught.value)


def test_some_have_an_exact_length() -> None:
    assert SecretKeys({"a": b"x" * 32}, "test", exactly=True)["a"] == b"x" * 32
    with pytest.raises(ConfigurationError, match="has 33 bytes: it takes exactly 32"):
        SecretKeys({"a": b"x" * 33}, "test", exactly=True)


def _fail() -> bytes:
    raise OSError("topsecret")


@pytest.mark.parametrize("function", [lambda: b"topsecret", lambda: "topsecret" * 9, _fail])
def test_a_function_that_gives_no_secret_is_an_error_without_a_word_of_it(function: Callable[[], bytes]) -> None:
    keys = SecretKeys({"a": function}, "test")
    with pytest.raises(ConfigurationError) as caught:
        keys["a"]
    assert "topsecret" not in str(caught.value)
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_function_is_called_once_and_at_the_first_use() -> None:
    calls: list[str] = []

    def give() -> bytes:
        calls.append("a")
        return GOOD

    keys = SecretKeys({"a": give, "b": give}, "test")
    assert calls == []
    assert (keys["a"], keys["a"], keys.first, "b" in keys, "c" in keys) == (GOOD, GOOD, "a", True, False)
    assert calls == ["a"]


def test_all_are_loaded_at_once_or_none_can_be() -> None:
    calls: list[str] = []

    def give() -> bytes:
        calls.append("called")
        return GOOD

    SecretKeys({"a": GOOD, "b": give, "c": give}, "test").load()
    assert calls == ["called", "called"]
    with pytest.raises(ConfigurationError, match="the function for the test key b raised OSError"):
        SecretKeys({"a": GOOD, "b": _fail}, "test").load()


def test_the_file_that_a_path_reads_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key"
    keys = SecretKeys({"a": path.read_bytes}, "test")
    with pytest.raises(ConfigurationError) as caught:
        keys.load()
    told = f"the function for the test key a ({path}) raised FileNotFoundError: no such file or directory"
    assert str(caught.value) == told
    path.write_bytes(b"short")
    with pytest.raises(
        ConfigurationError, match=re.escape(f"the test key a ({path}) has 5 bytes: it takes at least 32")
    ):
        keys.load()


def test_secrets_are_not_shown_and_stay_in_their_process() -> None:
    keys = SecretKeys({"new": GOOD, "old": GOOD}, "test")
    assert repr(keys) == "<test keys new, old>"
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            leave(keys)
