"""The embedded PostgreSQL: one server for one command, on new data.

`programs` are PostgreSQL's own and whom they run as, `folders` and `slots` where a server is, `template` its data,
`access` who may connect, `orphans` what killed commands left running; `process` starts and stops one process, of a
`server` or of its `standby`.
"""

from racebench.postgres.embedded.folders import cache_folder, server_folder
from racebench.postgres.embedded.programs import DEFAULT_VERSION, VERSIONS, start_program, wheel_programs
from racebench.postgres.embedded.server import Coming, EmbeddedServer, as_superuser, described
from racebench.postgres.embedded.slots import clean, reset, server_programs
from racebench.postgres.embedded.standby import EmbeddedStandby

__all__ = [
    "DEFAULT_VERSION",
    "VERSIONS",
    "Coming",
    "EmbeddedServer",
    "EmbeddedStandby",
    "as_superuser",
    "cache_folder",
    "clean",
    "described",
    "reset",
    "server_folder",
    "server_programs",
    "start_program",
    "wheel_programs",
]
