"""Names the server that results come from, with the settings of its role that matter for the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from racebench.reports.results.document import Document

if TYPE_CHECKING:
    from racebench.reports.results.explorations import Explorations


def server_of(document: Document | Explorations) -> str:
    """The server that a document is about: "PostgreSQL 18.4 (embedded)".

    With it come the settings that strategies are not defined under: sessions of the user's own code have them, for
    others racebench has replaced them.
    """
    environment = document.environment
    version, target = environment.get("server_version", "?"), environment.get("target", "?")
    if (standby := environment.get("standby")) is not None:
        target = f"{target}, with a hot standby{_delay(standby)}"
    pooler = environment.get("pooler")
    through = _through(pooler) if isinstance(pooler, Mapping) else ""
    differing = environment.get("role_settings", {})
    if not isinstance(differing, Mapping) or not differing:
        return f"PostgreSQL {version} ({target}){through}"
    listed = ", ".join(f"{name} = '{value}'" for name, value in differing.items())
    results = document.runs if isinstance(document, Document) else document.explorations
    own_code = any(result.as_expected is None for result in results)
    said = f"its sessions have {listed}" if own_code else f"racebench replaced the role's {listed}"
    return f"PostgreSQL {version} ({target}; {said}){through}"


def _delay(standby: Mapping[str, object]) -> str:
    return f" {standby['delay_ms']} ms behind" if standby["delay_ms"] else ""


def _through(pooler: Mapping[str, object]) -> str:
    """The pooler that workers pass: " through PgBouncer 1.18.0 (transaction pooling, 4 sessions of the server)"."""
    shared = "" if pooler["mode"] == "session" else f", {pooler['server_sessions']} sessions of the server"
    return f" through {pooler['program']} ({pooler['mode']} pooling{shared})"
