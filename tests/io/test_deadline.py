"""Waiting for others has an end."""

import threading

import pytest

from tood.io.deadline import with_deadline


def test_what_comes_in_time_is_passed_on() -> None:
    assert with_deadline(5.0, lambda: 3) == 3
    with pytest.raises(KeyError, match="mine"):
        with_deadline(5.0, lambda: {}["mine"])


def test_what_does_not_is_given_up() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        with_deadline(0.05, never.wait)
    never.set()
