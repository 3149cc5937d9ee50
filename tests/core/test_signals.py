"""Interruptions: one Interrupted, and never in the middle of cleaning up."""

from __future__ import annotations

import os
import signal

import pytest

from racebench.core.errors import Interrupted
from racebench.core.signals import handled, shielded
from waiting import wait_for


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_from_the_start_stays_ignored(number: signal.Signals) -> None:
    """As nohup does with SIGHUP, and a shell with the SIGINT of a background job."""
    signal.signal(number, signal.SIG_IGN)
    with handled():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_with_limited_patience_a_later_signal_counts_again_and_the_earlier_handler_returns() -> None:
    before = signal.getsignal(signal.SIGTERM)
    times = 0
    with handled(KeyboardInterrupt, patience_s=0.0):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
                os.kill(os.getpid(), signal.SIGTERM)
            times += 1
    assert times == 2
    assert signal.getsignal(signal.SIGTERM) is before


class Finalized:
    """Is interrupted when it is deleted, where Python discards exceptions."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_interruption_that_python_discards_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    def delete_and_go_on() -> None:
        del_me = Finalized()
        del del_me
        wait_for(lambda: False, "the interruption never came")

    with pytest.raises(Interrupted), handled():
        delete_and_go_on()
    assert "Exception ignored" not in capsys.readouterr().err


def test_a_shield_where_nothing_is_handled_changes_nothing() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores the signal
    try:
        with pytest.raises(KeyboardInterrupt), shielded():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
