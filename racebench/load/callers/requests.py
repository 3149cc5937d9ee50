"""Requests under load: an operation is a request to a service, over a connection that each worker keeps."""

from __future__ import annotations

from dataclasses import dataclass

from racebench.core import codes
from racebench.core.errors import DatabaseProblem
from racebench.core.faults import CONNECTION_LOST
from racebench.core.model import HttpRequest
from racebench.load.callers import Caller, Ending, Place
from racebench.workloads.http import HttpClient, NoAnswer, is_expected

#: The longest time without an answer, in seconds; what became of the request is not known then.
ANSWER_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestApplication:
    """What a process has to know to send requests. `expect`: the status codes of a success."""

    host: str
    port: int
    requests: tuple[HttpRequest, ...]
    expect: tuple[str, ...]
    late: tuple[str, ...] = ()

    def caller(self, place: Place) -> Caller:
        """See callers.Application."""
        return _Caller(self, place)


class _Caller:
    used = sees_faults = False

    def __init__(self, application: RequestApplication, place: Place) -> None:
        self.subjects = application.requests
        self._place = place
        self._expect = application.expect
        self._client = HttpClient(application.host, application.port)
        self.connect()

    def connect(self) -> None:
        """Connect to the service; raises DatabaseProblem."""
        try:
            self._client.connect(ANSWER_S)
        except NoAnswer as problem:
            raise DatabaseProblem(f"the service cannot be reached: {problem}") from None

    def silent_connections(self) -> tuple[int, ...]:
        return ()

    def run(self, request: HttpRequest) -> Ending:
        self._place.begun += 1
        self._place.says = f"waiting for the answer to '{request.method} {request.path}'"
        try:
            response = self._client.send(request, ANSWER_S)
        except NoAnswer as problem:
            return Ending(CONNECTION_LOST, f"no answer from the service: {problem}", fault=True)
        if is_expected(response.status, self._expect):
            return Ending()
        return Ending(codes.of_status(response.status), response.text)

    def close(self) -> None:
        self._client.close()
