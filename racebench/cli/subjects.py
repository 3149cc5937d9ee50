"""The scenario that a command runs, explores or replays: one that is named, or the user's own code."""

from __future__ import annotations

from dataclasses import replace

from racebench.cli.option_groups import SubjectOptions, TargetOptions
from racebench.core.errors import UsageProblem
from racebench.core.model import Scenario, Service
from racebench.workloads import ad_hoc, applications


def find_scenario(
    subject: SubjectOptions, target: TargetOptions | None = None, *, separate: bool = False, explored: bool = False
) -> Scenario:
    """The scenario that is named, or that the user's own code makes up; raises UsageProblem or ScenarioProblem.

    `separate`: each callable, program, request and file is a strategy of its own. `explored`: its schedules are
    explored.
    """
    headers = [applications.header(text) for text in subject.headers]
    scenario = ad_hoc.find(
        subject.scenario,
        called=subject.call,
        setup=subject.setup,
        invariants=subject.invariant,
        others=subject.files,
        programs=[applications.program(text) for text in subject.programs],
        requests=[applications.request(text, headers) for text in subject.requests],
        service=_service(subject, explored=explored),
        apart=separate,
    )
    if target is None or not target.superuser:
        return scenario
    words = scenario.options
    return replace(scenario, superuser=True, options=None if words is None else (*words, "--superuser"))


def _service(subject: SubjectOptions, *, explored: bool) -> Service | None:
    """The service that the options describe; None if there is none. Raises UsageProblem."""
    of_a_service = {**subject.service_options, "--header": subject.headers, "--restart": subject.restart}
    option = next((option for option, value in of_a_service.items() if value not in (None, (), False)), None)
    if not subject.requests:
        if option is not None:
            raise UsageProblem(f"{option} goes with --http 'METHOD /path', the request to send to the service; add it")
        return None
    if subject.serve is None and subject.url is None:
        raise UsageProblem("--http needs the service that answers it: --serve 'COMMAND', or --url with --listen")
    if subject.url is not None and explored and subject.listen is None:
        raise UsageProblem("--url needs --listen HOST:PORT: the address at which the service expects the database")
    if subject.url is not None and not explored:
        raise UsageProblem(
            "--url is for explore: under load a service that was started elsewhere would work on its own tables; "
            "give its command as --serve"
        )
    return applications.service(
        subject.serve or "",
        url=subject.url or "",
        listen=subject.listen or "",
        ready=subject.ready or "",
        expect_status="2xx" if subject.expect_status is None else subject.expect_status,
        reset=subject.reset,
        restart=subject.restart,
        instances=subject.instances,
    )
