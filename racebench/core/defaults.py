"""Numbers that the library and the help of the command line share. It imports nothing, so that help stays fast."""

from __future__ import annotations

#: How long a run may make no progress, in seconds, unless another limit is given.
GIVE_UP_SECONDS = 300.0
#: The most sessions of an exploration or a demonstration, without a consumer.
MOST_EXPLORED_SESSIONS = 9
#: The most connections that are cut in a schedule of an exploration.
MOST_CUT = 3
#: The most processes among which a search is divided, and the most of them on one machine.
MOST_JOBS = 256
MOST_LOCAL_JOBS = 32
#: The most machines that `--scheduler local` starts.
MOST_LOCAL_MACHINES = 32
