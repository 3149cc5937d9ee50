"""Programs, requests and services as subjects: `racebench.program`, `racebench.http`, `racebench.service`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from racebench.core.errors import DatabaseProblem, UsageProblem
from racebench.core.model import HttpRequest, Program, Service
from racebench.workloads import applications


def program(command: str | Sequence[str]) -> Program:
    """A program to run, in any language, as a process for each operation: its command, or its words.

    DATABASE_URL and PGHOST, PGPORT … say where its tables are. An exit code other than 0 is a failure. Raises
    UsageProblem.
    """
    with naming_parameters():
        return applications.program(command)


def http(
    method: str,
    path: str,
    *,
    json: Any = None,
    body: str | bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> HttpRequest:
    """A request to the service that is given as `serve`. Raises UsageProblem.

    `path`: with its query. `json`: a value that is the body, as JSON; or `body`.
    """
    content = body.encode() if isinstance(body, str) else body
    with naming_parameters():
        pairs = [applications.header(f"{name}: {value}") for name, value in (headers or {}).items()]
        return applications.made(method, path, body=content, headers=pairs, as_json=json)


def service(
    command: str | Sequence[str] = "",
    *,
    url: str = "",
    listen: str = "",
    ready: str = "",
    expect_status: str = "2xx",
    reset: str | HttpRequest | None = None,
    restart: bool = False,
    instances: Literal["each", "shared"] | None = None,
) -> Service:
    """A service for `serve`, where its command alone does not say enough. Raises UsageProblem.

    `{port}` in the command stands for its port, which is in the variable PORT too. `ready`: the path that it answers
    once it is ready; "" if it is when its port is open. `expect_status`: the status codes that are a success, as a list
    such as "2xx,409". `reset`: the request that resets what it remembers, sent before each schedule; `restart`: it is
    started anew for each. `instances`: one for each session ("each", as schedules are explored), or one for all
    ("shared", as under load). `url`: where it is, if it was started elsewhere, with `listen`, the address at which it
    expects the database.
    """
    with naming_parameters():
        return applications.service(
            command,
            url=url,
            listen=listen,
            ready=ready,
            expect_status=expect_status,
            reset=reset,
            restart=restart,
            instances=instances,
        )


@contextlib.contextmanager
def naming_parameters() -> Iterator[None]:
    """Have a message name parameters, where the command line has options."""
    try:
        yield
    except (UsageProblem, DatabaseProblem) as problem:
        from racebench.reports.library_words import in_library_words

        problem.args = (in_library_words(str(problem)),)
        raise


def served(serve: str | Service | None) -> Service | None:
    """The service that `serve` gives, by its command alone or whole."""
    return service(serve) if isinstance(serve, str) else serve


def check_kinds(subjects: Sequence[object], serve: Service | None) -> None:
    """Raise UsageProblem for subjects that do not go together, or not with a service."""
    requests = [subject for subject in subjects if isinstance(subject, HttpRequest)]
    programs = [subject for subject in subjects if isinstance(subject, Program)]
    if requests and serve is None:
        raise UsageProblem(f"'{requests[0]}' needs the service that answers it: serve='COMMAND' or a racebench.service")
    if serve is not None and not requests:
        raise UsageProblem("serve goes with racebench.http('METHOD', '/path'), the request to send to the service")
    for kind in (requests, programs):
        if kind and len(kind) < len(subjects):
            other = next(subject for subject in subjects if subject not in kind)
            raise UsageProblem(f"both '{kind[0]}' and '{other}': give subjects of one kind")
