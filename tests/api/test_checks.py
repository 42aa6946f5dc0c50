"""Checks of what programs give."""

from __future__ import annotations

from typing import Any

import pytest

from herdmaster.api.checks import check_auth
from herdmaster.errors import ConfigurationError


@pytest.mark.parametrize("wrong", ["al:secret", ("al", "secret"), 7])
def test_the_frames_of_an_error_do_not_hold_what_may_be_a_password(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as raised:
        check_auth(wrong)
    assert "secret" not in str(raised.value)
    frames = [entry.frame for entry in raised.traceback if entry.name == "check_auth"]

    assert len(frames) == 1
    assert "value" not in frames[0].f_locals
