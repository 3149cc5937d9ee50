"""The command without a terminal: text, the list of walkthroughs, and errors in one line."""

from __future__ import annotations

import re

import pytest

from conftest import Command, UsersServer, assert_one_line
from racebench.demo import walkthroughs


@pytest.mark.server
def test_printed_it_is_text_and_the_same_again(racebench: Command) -> None:
    one, other = (racebench("demo", "--notes", env={"FORCE_COLOR": ""}) for _ in range(2))
    assert one.returncode == 0
    assert one.stdout == other.stdout
    assert one.stderr == ""
    assert "\x1b" not in one.stdout
    assert max(map(len, one.stdout.splitlines())) <= 120
    for phrase in (
        "ANOMALY: duplicates: 1, missed: 1",
        "s2 WAITS for s1",
        "[DUPLICATE] [MISSED]",
        "(Notes: Ask who has",
        "the end: No anomaly. The price: session 2 had to wait.",
    ):
        assert phrase in one.stdout
    schedule = re.search(r"racebench demo '(v1:.*naive.*)'", one.stdout)
    assert schedule is not None
    replayed = racebench("replay", schedule[1])
    assert replayed.returncode == 0
    assert "1 duplicate, 1 missed" in replayed.stdout


def test_the_list_names_every_walkthrough(racebench: Command) -> None:
    listed = racebench("demo", "--list")
    assert listed.returncode == 0
    for walkthrough in walkthroughs.WALKTHROUGHS.values():
        assert walkthrough.name in listed.stdout
        assert walkthrough.title in listed.stdout


def test_on_the_users_server_too(racebench: Command, users_server: UsersServer) -> None:
    done = racebench("demo", "fix", "--dsn", users_server.dsn())
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no anomaly") == 2
    assert users_server.schemas() == []
    assert users_server.sessions() == 0


@pytest.mark.server
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["twinn"], 2, "'twinn' is not a walkthrough or a strategy of version-counter; did you mean 'twin'?"),
        (["oversell"], 2, "'oversell' is a scenario: racebench demo [STRATEGY] --scenario oversell"),
        (["twin", "--consumer", "cursor"], 2, "walkthrough 'twin' has its own consumer"),
        (["twin", "--scenario", "oversell"], 2, "walkthrough 'twin' belongs to version-counter"),
        (["twin", "--fix", "advisry"], 2, "did you mean 'advisory'?"),
        (["naive", "--consumer", "gap-wait", "--fix", "clock"], 2, "cannot read what 'clock' writes"),
        (["clock", "--consumer", "gap-wait"], 2, "cannot read what 'clock' writes"),
        (["v1:version-counter/naive:s1.sX"], 2, "column 29: 'sX' is no session"),
        (["v1:version-counter/naive:s1.s2.s9"], 2, "the schedule has a step of s9 and none of s3: give it as explore"),
        (["v1:version-counter/naive:s1.s1"], 2, "the schedule ends before the sessions do: s1 can go on"),
        (["v1:version-counter/naive[00000000]:s1"], 2, "the schedule is of another version of 'naive'"),
        (["v1:version-counter/naive:s1.s2.s3.s4.s5.s6.s7.s8.s9.s10"], 2, "the schedule is of 10 sessions"),
        (["v1:version-counter/naive+cursor:s1"], 2, "the schedule is of 0 sessions"),
        (
            ["v1:version-counter/advisory:s1.s1.s2.s2.s2.s2"],
            2,
            "'advisory' cannot follow this schedule: at step 5 s2 cannot go on, s1 can",
        ),
        (["v1:version-counter/naive:s1", "--consumer", "cursor"], 2, "a schedule has its own consumer"),
        (["--export", "pdf"], 2, "'pdf' is not one of"),
        (["-o", "demo.pdf"], 2, "'demo.pdf' does not say the format"),
        (["-o", "missing/demo.svg"], 2, "folder 'missing' does not exist"),
        (["--autoplay", "0"], 2, "--autoplay is a number above 0"),
        (["uuidv7", "--server", "16"], 6, "'uuidv7' needs PostgreSQL 18, the embedded PostgreSQL 16 is 16"),
        (["--dsn", "postgresql://me:secret@127.0.0.1:1/x"], 6, "cannot connect to 127.0.0.1:1/x"),
    ],
)
def test_bad_input_is_one_line(racebench: Command, arguments: list[str], code: int, message: str) -> None:
    done = racebench("demo", *arguments)
    assert_one_line(done, code, message)
    assert "secret" not in done.stderr
