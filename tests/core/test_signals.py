"""Interruptions: one Interrupted, and never in the middle of cleaning up."""

from __future__ import annotations

import os
import signal

import pytest

from racebench.core.errors import Interrupted
from racebench.core.signals import handled, shielded


@pytest.fixture(autouse=True)
def _handlers() -> object:
    """What the tests leave installed is undone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_raised_and_later_ones_are_ignored(number: signal.Signals) -> None:
    def interrupted_twice() -> None:
        with handled():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)

    with pytest.raises(Interrupted):
        interrupted_twice()
    os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_signal_in_nested_shields_is_raised_when_the_outermost_ends() -> None:
    done = []

    def clean_up() -> None:
        with handled():
            with shielded():
                with shielded():
                    os.kill(os.getpid(), signal.SIGINT)
                    done.append("inner")
                done.append("outer")
            done.append("after")

    with pytest.raises(Interrupted):
        clean_up()
    assert done == ["inner", "outer"]


def test_without_a_signal_the_earlier_handlers_return_from_nested_blocks() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with handled():
        with handled(), shielded():
            pass
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_new_block_after_an_interruption_is_interrupted_again() -> None:
    for _ in range(2):
        with pytest.raises(Interrupted), handled():
            os.kill(os.getpid(), signal.SIGINT)


def test_a_shield_where_nothing_is_handled_changes_nothing() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores the signal
    try:
        with pytest.raises(KeyboardInterrupt), shielded():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
