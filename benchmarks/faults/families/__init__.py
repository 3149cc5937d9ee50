"""All faults, by name."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.faults.families.machine import MACHINE, SIGNALS
from benchmarks.faults.families.network import NETWORK, POOLERS
from benchmarks.faults.families.processes import PROCESSES
from benchmarks.faults.families.servers import SERVERS
from benchmarks.faults.families.surroundings import SURROUNDINGS
from benchmarks.faults.fault import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault for fault in (*PROCESSES, *SERVERS, *NETWORK, *POOLERS, *SURROUNDINGS, *MACHINE, *SIGNALS)
}
