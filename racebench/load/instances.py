"""The instances of a service under load: started for a run, looked after while it lasts, and stopped at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from racebench.core.errors import UsageProblem
from racebench.core.model import HttpRequest, Instances, Service
from racebench.core.watching import beat
from racebench.load.callers.requests import ANSWER_S, RequestApplication
from racebench.postgres.schemas import application_name
from racebench.workloads.addresses import Environment
from racebench.workloads.http import HttpClient, NoAnswer, is_expected
from racebench.workloads.services import RunningService

#: The role of a service's sessions in their application name.
ROLE = "service"
_QUIET_S = 5.0
_PAUSE_S = 0.01
# What a service does after its answer (a background task) is a transaction of its own, begun soon.
_AT_WORK = "SELECT FROM pg_stat_activity WHERE application_name = %s AND state <> 'idle' LIMIT 1"


class RunningInstances:
    """The instances of a service for one run: one, or as many as workers. They are to be stopped.

    `environment`: the variables that name the database to them.
    """

    def __init__(self, service: Service, environment: Environment, schema: str, *, workers: int) -> None:
        self._service, self._environment = service, environment
        self._name = application_name(schema, ROLE)
        self._count = workers if service.instances is Instances.EACH else 1
        self._running: list[RunningService] = []

    def start(self, environment_of: Callable[[int], Environment] | None = None) -> None:
        """Start them, one after the other, and wait until each is ready; raises UsageProblem.

        `environment_of`: the variables that name the database to an instance, by its number from 1; None for the usual
        ones.
        """
        for number in range(1, self._count + 1):
            environment = self._environment if environment_of is None else environment_of(number)
            self._running.append(RunningService.start(self._service, environment, meanwhile=_wait))

    def restart(self, environment_of: Callable[[int], Environment] | None = None) -> None:
        """Stop them, and start them as `start` does."""
        self.stop()
        self._running.clear()
        self.start(environment_of)

    def reset(self) -> None:
        """Have each forget what it remembers, if there is a request for that; raises UsageProblem."""
        if (reset := self._service.reset) is None:
            return
        for instance in self._running:
            with HttpClient(instance.host, instance.port) as client:
                try:
                    answer = client.send(reset, ANSWER_S)
                except NoAnswer as problem:
                    raise UsageProblem(f"--reset '{reset}' has no answer: {problem}{instance.said()}") from None
                if not is_expected(answer.status, self._service.expect):
                    raise UsageProblem(f"--reset '{reset}' failed: {answer.text}; correct it, or leave it out")

    def application(self, worker: int, requests: Sequence[HttpRequest]) -> RequestApplication:
        """What a worker, numbered from 1, has to know; number 0 runs alone."""
        instance = self._running[max(0, worker - 1) % self._count]
        return RequestApplication(
            host=instance.host, port=instance.port, requests=tuple(requests), expect=self._service.expect
        )

    def dead(self) -> str:
        """What has become of an instance that has ended, with its last lines; "" while all run."""
        for instance in self._running:
            if (ended := instance.ended()) is not None:
                return f"the service '{instance.name}' ended ({ended}){instance.said()}"
        return ""

    def settle(self, connection: psycopg.Connection[Any]) -> str:
        """Wait until their sessions are idle; what is still at work after some seconds, as a sentence, or ""."""
        deadline = time.monotonic() + _QUIET_S
        while connection.execute(_AT_WORK, (self._name,)).fetchone() is not None:
            if time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_S)
        else:
            return ""
        return f"the service was still at work in the database {_QUIET_S:.0f} s after its last answer"

    def stop(self) -> None:
        """End all of them."""
        for instance in self._running:
            instance.stop()


def _wait(seconds: float) -> None:
    beat()
    time.sleep(seconds)
