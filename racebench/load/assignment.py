"""What all workers and consumers of one run have in common: the target, the strategy, the load, the files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racebench.core.model import Consumer, Load, Strategy
from racebench.core.target import Target
from racebench.core.watching import Patience
from racebench.load.callers import Application, surroundings
from racebench.load.callers.python import python_application
from racebench.load.run_files import RunFiles
from racebench.postgres.schemas import application_name
from racebench.workloads import addresses
from racebench.workloads.addresses import Environment

if TYPE_CHECKING:
    from racebench.load.instances import RunningInstances
    from racebench.postgres.pgbouncer import Pooler


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The common part of the tasks of a run's workers and consumers: target, scenario, load and files.

    `own_code`: the strategy is the user's own code. `late`: modules that its calls import when they are first called.
    `reached`: the calls have reached the server, tried alone. `instances`: of the service that the strategy's requests
    go to. `door`: the port of the doorway to a server that has only a Unix socket. `rests`: another run follows in a
    schema of that name, and the sessions of workers and consumers may wait for it. `pooler`: what the sessions of
    workers, and of what they call, pass on their way to the server.
    """

    target: Target
    schema: str
    strategy: Strategy
    consumers: tuple[Consumer, ...]
    load: Load
    files: RunFiles
    own_code: bool = False
    late: tuple[str, ...] = ()
    reached: bool = True
    patience: Patience = field(default_factory=Patience)
    instances: RunningInstances | None = None
    door: int | None = None
    rests: bool = False
    pooler: Pooler | None = None

    @property
    def entrance(self) -> Target:
        """Where the sessions of workers connect to, unless faults are injected on their way."""
        return self.target if self.pooler is None else self.pooler.target

    def environment(self, target: Target) -> Environment:
        """The variables that name the database to a program or a service, which connects to a target.

        That is the server, by its doorway if it has one, or a port of a process that injects faults.
        """
        if target is not self.entrance:
            return addresses.through(target.parameters["host"], int(target.parameters["port"]), target, self.schema)
        if self.door is not None:
            from racebench.load.doorway import HOST as DOOR

            return addresses.through(DOOR, self.door, target, self.schema)
        return addresses.direct(target, self.schema, application_name(self.schema, self.role))

    @property
    def role(self) -> str:
        """The role, in their application name, of the sessions in which operations work."""
        if self.strategy.service is None:
            return "worker"
        from racebench.load.instances import ROLE

        return ROLE

    @property
    def sessions(self) -> range:
        """The sessions of all workers, numbered from 1."""
        return range(1, self.load.sessions + 1)

    def application(self, role: str, number: int = 0, target: Target | None = None) -> Application:
        """What a process has to know to call the user's application.

        `number`: the worker's, from 1. `target`: where to connect to, if not directly.
        """
        name, target = application_name(self.schema, role), target or self.entrance
        if self.instances is not None:
            return self.instances.application(number, self.strategy.requests)
        if self.strategy.programs:
            from racebench.load.callers.programs import ProgramApplication

            return ProgramApplication(
                programs=self.strategy.programs, environment=self.environment(target), surroundings=surroundings()
            )
        return python_application(target, self.schema, name, self.strategy.calls, self.late)
