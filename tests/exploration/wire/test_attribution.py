"""Whose a piece is, where requests share an instance of a service: what each sends alone, and who waits. No server."""

from __future__ import annotations

from dataclasses import dataclass, field

from racebench.exploration.wire.attribution import attribute


@dataclass(eq=False)
class Request:
    """A session that may have sent a piece."""

    name: str
    trace: list[str]
    reached: int = 0
    has_responded: bool = False
    can_go_on: bool = False
    texts: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.texts |= set(self.trace)


def creates(name: str, **more: int) -> Request:
    return Request(name, ["SELECT", "INSERT", "COMMIT"], **more)


def test_the_only_one_that_can_have_sent_it_has() -> None:
    runner = creates("s1")
    assert attribute("SELECT", runner, []).session is runner
    assert attribute("made up", runner, []).certain


def test_what_each_sends_next_tells_them_apart() -> None:
    runner, waiting = creates("s1", reached=1), creates("s2")
    for text, session in (("INSERT", runner), ("SELECT", waiting)):
        found = attribute(text, runner, [waiting])
        assert (found.session, found.certain) == (session, True)


def test_what_only_one_sends_at_all_tells_them_apart() -> None:
    runner, waiting = creates("s1"), Request("s2", ["DELETE"], reached=1)
    found = attribute("DELETE", runner, [waiting])
    assert (found.session, found.certain) == (waiting, True)


def test_if_both_may_have_sent_it_the_owner_of_the_transaction_has() -> None:
    runner, waiting = creates("s1", reached=1), creates("s2", reached=1)
    found = attribute("INSERT", runner, [waiting], owner=waiting)
    assert (found.session, found.certain) == (waiting, True)


def test_if_both_may_have_sent_it_and_nothing_tells_that_is_not_certain() -> None:
    runner, waiting = creates("s1"), creates("s2")
    assert not attribute("SELECT", runner, [waiting]).certain


def test_a_runner_that_has_responded_leaves_it_to_the_one_that_has_waited_longest() -> None:
    runner, first, second = creates("s1"), creates("s3"), creates("s2")
    for runner.has_responded, runner.can_go_on in ((True, False), (False, True)):
        found = attribute("SELECT", runner, [first, second])
        assert (found.session, found.certain) == (first, True)
    assert attribute("SELECT", None, [first, second]).session is first
