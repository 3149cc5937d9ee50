"""The embedded PostgreSQL: one server for one command, in a data directory from a cache.

`programs` are PostgreSQL's own and whom they run as, `slots` the data directories, `server` starts and stops.
"""

from racebench.postgres.embedded.programs import DEFAULT_VERSION, VERSIONS, start_program, wheel_programs
from racebench.postgres.embedded.server import EmbeddedServer
from racebench.postgres.embedded.slots import cache_folder, reset, server_folder, server_programs

__all__ = [
    "DEFAULT_VERSION",
    "VERSIONS",
    "EmbeddedServer",
    "cache_folder",
    "reset",
    "server_folder",
    "server_programs",
    "start_program",
    "wheel_programs",
]
