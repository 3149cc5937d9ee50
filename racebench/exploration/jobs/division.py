"""Whether an exploration can be divided among jobs, which have servers and processes of their own."""

from __future__ import annotations

from racebench.exploration.request import ExplorationRequest


def why_not(request: ExplorationRequest, *, embedded: bool) -> str:
    """Why the search of a request is not divided, as a clause; "" if it can be. `embedded`: on an embedded server.

    Sessions of an application's code have more state than a server: what one process has seen of it holds there.
    On a user's server the advisory locks of a database, the oldest transaction and the predicate locks of the cluster
    are shared, so that one job would see what another one does.
    """
    if not embedded or request.in_place:
        return "each job has an embedded server of its own, and a user's server is one"
    if request.strategy.is_application:
        return "calls, programs and requests are explored by one process"
    if request.scenario.setup or request.scenario.checks:
        return "a setup or an invariant in Python is run by one process"
    return ""
