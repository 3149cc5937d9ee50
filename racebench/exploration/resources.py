"""The resources that a statement may reach: tables, sequences, advisory locks and the clock, by name.

Found in the text of the statement and in the catalogs: a table's triggers, rules, defaults, constraints, partitions and
foreign keys lead to other tables, and functions to what they name, to any depth (hidden_effects.py). A name stands for
every relation that has it, in any schema. Where the text does not say what is reached, it is every resource.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Set

from racebench.exploration.hidden_effects import Objects, mentioned
from racebench.exploration.independence import (
    ADVISORY,
    ALL,
    CLOCK,
    CLOCKS,
    OF_TRANSACTION,
    Resources,
    names_in,
)
from racebench.exploration.leftovers import Leftover

#: The relations of some names, and those that are locked or read with them without being named: tables that refer to a
#: table, the table of a sequence, the sequences of a table. By names that stay when the schema is made again.
_RELATIONS = """
WITH own AS (
    SELECT pg_class.oid, lower(relname) AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE lower(relname) = ANY(%(names)s) AND relkind IN ('r', 'p', 'm', 'v', 'f', 'S')
      AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
), reached AS (
SELECT name, oid FROM own
UNION
SELECT name, unnest(ARRAY[conrelid, confrelid]) FROM own
JOIN pg_constraint ON contype = 'f' AND own.oid IN (conrelid, confrelid)
UNION
SELECT name, unnest(ARRAY[objid, refobjid]) FROM own
JOIN pg_depend ON own.oid IN (objid, refobjid) AND deptype IN ('a', 'i')
    AND classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
)
SELECT name, format('%%I.%%I', CASE WHEN nspname = current_schema() THEN '' ELSE nspname END, relname)
FROM reached JOIN pg_class ON pg_class.oid = reached.oid JOIN pg_namespace ON pg_namespace.oid = relnamespace
"""
#: What makes a name stand for something else, or runs what is not seen.
_CHANGING = frozenset({Leftover.CATALOG, Leftover.TEMPORARY, Leftover.HIDDEN})
_ADVISORY = re.compile(r"pg_(try_)?advisory_\w+")
#: Functions that read the clock, besides those that are named for it.
_CLOCKS = CLOCKS | {"uuidv7", "uuid_generate_v1", "uuid_generate_v1mc"}
#: What tells of other transactions, or speaks to other sessions.
_TELLING = re.compile(
    r"pg_current_xact_id\w*|txid_\w+|pg_current_snapshot|pg_snapshot_\w+|pg_xact_\w+|pg_last_committed_xact"
    r"|pg_logical_\w+|xmin|xmax|cmin|cmax|pg_notify|notify|listen"
)
#: A sequence whose name is computed; U&"..." writes a name in code points.
_UNNAMED = re.compile(r"\b(?:nextval|setval|currval)\b(?!\s*\(\s*')|\bU&[\"']", re.IGNORECASE)


class Reached:
    """Finds the resources of the statements of scripts; what is not yet known is asked of the catalogs.

    `leaves`: what the scripts may leave behind; if they may change what a name stands for, nothing is certain.
    """

    def __init__(self, objects: Objects, leaves: Collection[Leftover] = ()) -> None:
        self._objects = objects
        self._certain = _CHANGING.isdisjoint(leaves)
        self._relations: dict[str, frozenset[str]] = {}
        self._by_text: dict[str, Resources] = {}

    def load(self, texts: Iterable[str]) -> None:
        """Ask for everything that these statements reach in as few queries as possible.

        If one of them tells in which order transactions began to write, or committed, the tables do not decide what
        depends on what: then nothing is certain.
        """
        if self._certain:
            names, _ = self._names(set().union(*map(names_in, texts)))
            self._certain = not any(_TELLING.fullmatch(name) for name in names)
            self._ask(names)

    def of(self, text: str) -> Resources:
        """The resources that a statement may reach."""
        if not self._certain:
            return ALL
        if (known := self._by_text.get(text)) is None:
            known = self._by_text[text] = self._of(text)
        return known

    def _of(self, text: str) -> Resources:
        if _UNNAMED.search(text):
            return ALL
        names, certain = self._names(names_in(text))
        if not certain or any(_TELLING.fullmatch(name) for name in names):
            return ALL
        self._ask(names)
        reached = frozenset().union(*(self._relations[name] for name in names))
        if advisory := {name for name in names if _ADVISORY.fullmatch(name)}:
            reached |= {ADVISORY, *([OF_TRANSACTION] if any("_xact_" in name for name in advisory) else [])}
        return reached | {CLOCK} if names & _CLOCKS else reached

    def _names(self, names: Set[str]) -> tuple[set[str], bool]:
        """These names and those that they lead to; and whether the text of everything is known."""
        reached, certain = set(names), True
        for _, text, _ in self._objects.find({*names, *self._objects.casts}):
            certain &= text is not None and not _UNNAMED.search(text)
            reached |= mentioned(text)
        return reached, certain

    def _ask(self, names: Set[str]) -> None:
        new = names - self._relations.keys()
        if not new:
            return
        found: dict[str, set[str]] = {name: set() for name in new}
        rows = self._objects.connection.execute(_RELATIONS, {"names": sorted(new)}).fetchall()
        for name, relation in rows:
            found[name].add(str(relation))
        self._relations |= {name: frozenset(relations) for name, relations in found.items()}
