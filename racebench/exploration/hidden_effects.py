"""Whether a write may do more than write: what it fires or calls, to any depth, as the server's catalogs have it.

A write counts as plain (independence.py) only if everything that it may run is known to be harmless: triggers, rules,
defaults, generated columns, constraints, policies, and functions. Harmless is what takes no lock that a plain read
waits for, and changes nothing that another session sees before the COMMIT. Row locks, advisory locks, and numbers
taken from sequences are harmless: a plain read does not depend on them.

What is harmless is a list. A keyword in the body of a function that is not in the list (LOCK, REFRESH, EXECUTE, ...)
makes every write that may reach the function do more than write, and so do a function in another language, and a
function of PostgreSQL's own that may run SQL or read other sessions' state. Names are compared without regard to
schemas: a name stands for every object that has it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from typing import Any

import psycopg

from racebench.exploration.independence import names_in

#: Keywords that a function of language sql or plpgsql may contain: those of queries, writes and expressions, and some
#: that are often names of columns or words of messages. None of them begins another command, except DO: see `_INLINE`.
_HARMLESS_KEYWORDS = """
absent access action add after all also and any array as asc at atomic attribute before begin between bigint bit
boolean both by cache call called case cast char character check class close coalesce collate column columns comments
committed configuration conflict constraint content conversion cost cross cube current current_catalog current_date
current_role current_schema current_time current_timestamp current_user cursor cycle data day dec decimal declare
default delete depends depth desc distinct do document domain double each else empty end enum error escape event
except exists expression external extract false family fetch filter first float following for foreign format forward
from full function functions generated global greatest group grouping groups having hold hour identity if ilike
immediate in include increment index inner inout input insert instead int integer intersect interval into is isnull
join json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize
json_table json_value keep key keys label language large last lateral leading least left level like limit localtime
localtimestamp location locked mapping match matched materialized maxvalue merge method minute minvalue mode month
name names national natural nchar new next no none normalize normalized not nothing notify notnull nowait null nullif
nulls numeric object of off offset old on only operator option or order ordinality others out outer over overlaps
overlay overriding owned owner parallel parameter partial partition password path period plan plans policy position
preceding precision primary prior procedure quote range read real recursive ref references relative replace return
returning returns right role rollup row rows rule schema scroll search second select sequence sequences session_user
set setof sets share similar simple skip smallint snapshot some source sql stable statement statistics storage strict
string subscription substring support symmetric system table tables tablesample target temp template text then ties
time timestamp to trailing treat trim true trusted type types unbounded uncommitted union unique unknown until update
user using valid value values varchar variadic varying version view views when where window with within without work
write xml xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlparse xmlroot xmlserialize xmltable year yes zone
"""
#: DO runs a block of code. ON CONFLICT DO is another thing.
_INLINE = re.compile(r"\bDO\b(?!\s+(NOTHING|UPDATE)\b)", re.IGNORECASE)
#: A comment to the end of its line. With a quote or a block comment about, it might be something else: it is kept.
_COMMENT = re.compile(r"""^([^'"$*/\\\n\r]*?)--[^'"$*/\\\n\r]*$""", re.MULTILINE)
#: An identifier in escapes, or a character that Python may count as a blank though the server has it in a name.
_UNREADABLE = re.compile(r'u&"|[^\w\x00-\x7f]', re.IGNORECASE)

#: Volatile functions of PostgreSQL's own that do not concern plain reads, and stable ones with such names.
_HARMLESS = (
    r"^(nextval|currval|lastval|setval|random|random_normal|setseed|gen_random_uuid|uuidv4|uuidv7|uuid_generate_v\w+"
    r"|gen_random_bytes|clock_timestamp|timeofday|pg_(try_)?advisory_\w+|pg_sleep\w*|pg_notify|pg_typeof"
    r"|pg_backend_pid|pg_current_xact_id\w*|txid_current\w*|pg_current_snapshot|pg_trigger_depth|pg_column_size"
    r"|pg_get_serial_sequence)$"
)

#: Every object with one of some names: its name, its text (NULL: it may do anything), and whether that is a body.
#: Only a body may contain commands. The rest are definitions, of expressions and queries.
_OBJECTS = r"""
WITH relation AS (
    SELECT pg_class.*, nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE lower(relname) = ANY(%(names)s) AND nspname NOT IN ('information_schema', 'pg_toast')
), own AS (SELECT * FROM relation WHERE nspname <> 'pg_catalog')
SELECT lower(proname), CASE
    WHEN nspname = 'pg_catalog' THEN CASE
        WHEN proname ~ %(harmless)s THEN ''
        WHEN proname ~ '_to_xml' OR provolatile = 'v' OR provolatile = 's' AND proname ~ '^(pg|txid)_' THEN NULL
        ELSE '' END
    WHEN prokind NOT IN ('f', 'p') THEN NULL
    WHEN lanname IN ('sql', 'plpgsql') THEN concat_ws(' ', prosrc, pg_get_function_sqlbody(pg_proc.oid),
        pg_get_expr(proargdefaults, 0))
    WHEN lanname IN ('c', 'internal') AND (provolatile = 'i' OR proname ~ %(harmless)s) THEN ''
    END, nspname <> 'pg_catalog'
FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace JOIN pg_language ON pg_language.oid = prolang
WHERE lower(proname) = ANY(%(names)s)
UNION ALL -- a function's types: a domain has constraints
SELECT lower(proname), concat_ws(' ', prorettype::regtype, proargtypes::regtype[]::text), false
FROM pg_proc WHERE lower(proname) = ANY(%(names)s) AND pronamespace <> 'pg_catalog'::regnamespace
UNION ALL
SELECT lower(relname), CASE WHEN relkind = 'f' OR relkind = 'v' AND nspname = 'pg_catalog' THEN NULL
    WHEN relkind = 'v' THEN pg_get_viewdef(oid)
    WHEN relkind = 'p' THEN pg_get_partkeydef(oid) ELSE '' END, false
FROM relation
UNION ALL
SELECT lower(relname), pg_get_triggerdef(pg_trigger.oid), false FROM own JOIN pg_trigger ON tgrelid = own.oid
WHERE NOT tgisinternal
UNION ALL
SELECT lower(relname), pg_get_ruledef(pg_rewrite.oid), false FROM own JOIN pg_rewrite ON ev_class = own.oid
WHERE ev_type <> '1'
UNION ALL
SELECT lower(relname), pg_get_expr(adbin, adrelid), false FROM own JOIN pg_attrdef ON adrelid = own.oid
UNION ALL
SELECT lower(relname), pg_get_constraintdef(pg_constraint.oid), false FROM own JOIN pg_constraint ON conrelid = own.oid
UNION ALL -- a foreign key that writes to the tables that refer to this one
SELECT lower(relname), quote_ident((SELECT relname FROM pg_class WHERE oid = conrelid)), false
FROM own JOIN pg_constraint ON confrelid = own.oid
WHERE confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')
UNION ALL
SELECT lower(relname), concat_ws(' ', pg_get_expr(indexprs, indrelid), pg_get_expr(indpred, indrelid)), false
FROM own JOIN pg_index ON indrelid = own.oid
UNION ALL -- the functions of a user's operator class
SELECT lower(relname), quote_ident(proname), false
FROM own JOIN pg_index ON indrelid = own.oid JOIN pg_opclass ON pg_opclass.oid = ANY(indclass)
JOIN pg_amproc ON amprocfamily = opcfamily JOIN pg_proc ON pg_proc.oid = amproc
WHERE pronamespace <> 'pg_catalog'::regnamespace
UNION ALL
SELECT lower(relname), concat_ws(' ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), false
FROM own JOIN pg_policy ON polrelid = own.oid
UNION ALL -- parents and children: a row is written to a partition, under both tables' rules
SELECT lower(own.relname), quote_ident(other.relname), false FROM own
JOIN pg_inherits ON own.oid IN (inhrelid, inhparent) JOIN pg_class other ON other.oid IN (inhrelid, inhparent)
UNION ALL -- the types of a table's columns; a row type is a relation too
SELECT lower(relname), concat_ws(' ', quote_ident(typname),
    (SELECT quote_ident(typname) FROM pg_type element WHERE element.oid = pg_type.typelem)), false
FROM own JOIN pg_attribute ON attrelid = own.oid JOIN pg_type ON pg_type.oid = atttypid
WHERE typnamespace <> 'pg_catalog'::regnamespace
UNION ALL
SELECT lower(typname), concat_ws(' ', typdefault, pg_get_constraintdef(pg_constraint.oid), typbasetype::regtype,
    rngsubdiff, rngcanonical), false
FROM pg_type LEFT JOIN pg_constraint ON contypid = pg_type.oid LEFT JOIN pg_range ON rngtypid = pg_type.oid
WHERE lower(typname) = ANY(%(names)s) AND typnamespace <> 'pg_catalog'::regnamespace AND typtype IN ('d', 'r', 'm')
UNION ALL -- an operator may be written next to another one
SELECT name, quote_ident(proname), false
FROM pg_operator JOIN pg_proc ON pg_proc.oid = oprcode JOIN unnest(%(names)s) AS name ON strpos(name, oprname) > 0
WHERE oprnamespace <> 'pg_catalog'::regnamespace
"""

#: What any statement may run without naming it: the functions of casts.
_CASTS = """
SELECT lower(proname) FROM pg_cast JOIN pg_proc ON pg_proc.oid = castfunc
WHERE pronamespace <> 'pg_catalog'::regnamespace
"""
#: Whether there are functions besides PostgreSQL's own, to which those of the information schema belong.
_OWN_FUNCTIONS = """
SELECT FROM pg_proc
WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace) LIMIT 1
"""
_TABLES = (
    "SELECT lower(relname) FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
)


#: Stands for code in a language that is not read: it may run any SQL.
UNREADABLE = "EXECUTE"


def names_of_tables(connection: psycopg.Connection[Any]) -> set[str]:
    """The names of the tables of the connection's schema, in lower case."""
    return {str(row[0]) for row in connection.execute(_TABLES).fetchall()}


class Objects:
    """What the catalogs have of objects, by name. Asked for once: a query of theirs takes ten milliseconds."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._found: dict[str, list[tuple[str | None, bool]]] = {}
        self._mentioned: dict[str, set[str]] = {}
        self._casts: frozenset[str] | None = None
        self._keywords: frozenset[str] | None = None

    @property
    def casts(self) -> frozenset[str]:
        """The names of the functions of casts, which any statement may run without naming them."""
        if self._casts is None:
            self._casts = frozenset(str(row[0]) for row in self.connection.execute(_CASTS).fetchall())
        return self._casts

    @property
    def keywords(self) -> frozenset[str]:
        """The keywords of the server's SQL."""
        if self._keywords is None:
            rows = self.connection.execute("SELECT word FROM pg_get_keywords()").fetchall()
            self._keywords = frozenset(str(row[0]) for row in rows)
        return self._keywords

    def load(self, names: Iterable[str]) -> None:
        """Ask for these names together, and for those that they lead to."""
        for _ in self.find({*names, *self.casts}):
            pass

    def find(self, names: Iterable[str]) -> Iterator[tuple[str, str | None, bool]]:
        """The objects of these names, and those that they name, to any depth: name, text, whether that is a body."""
        known: set[str] = set()
        frontier = set(names)
        while frontier:
            known |= frontier
            self._ask(frontier - self._found.keys())
            yield from ((name, text, is_body) for name in frontier for text, is_body in self._found[name])
            frontier = set().union(*(self._mentioned[name] for name in frontier)) - known

    def _ask(self, names: Set[str]) -> None:
        if not names:
            return
        found: dict[str, list[tuple[str | None, bool]]] = {name: [] for name in names}
        parameters = {"names": sorted(names), "harmless": _HARMLESS}
        for name, text, is_body in self.connection.execute(_OBJECTS, parameters, prepare=True).fetchall():
            found[name].append((text, is_body))
        self._found |= found
        self._mentioned |= {name: set().union(*(mentioned(text) for text, _ in found[name])) for name in found}


def mentioned(text: str | None) -> frozenset[str]:
    """Every name in a definition or a body, without its comments."""
    return names_in(_COMMENT.sub(r"\1", text or ""))


def does_more_than_write(objects: Objects, names: Iterable[str]) -> frozenset[str]:
    """Of the names in a write, in lower case, those of objects that may do more than write."""
    asked = set(names)
    if not asked:
        return frozenset()
    forbidden = objects.keywords.difference(_HARMLESS_KEYWORDS.split())
    casts = objects.casts
    bad: set[str] = set()
    mentions: dict[str, set[str]] = defaultdict(set)
    for name, text, is_body in objects.find(asked | casts):
        words = mentioned(text)
        mentions[name] |= words
        if text is None or (is_body and _commands(text, words & forbidden)):
            bad.add(name)
    while reaching := {name for name, words in mentions.items() if name not in bad and words & bad}:
        bad |= reaching
    return frozenset(asked if casts & bad else asked & bad)


def reached(connection: psycopg.Connection[Any], names: Iterable[str]) -> frozenset[str]:
    """The names, in lower case, of everything that statements with these names may run, and of what that names."""
    objects = Objects(connection)
    asked = {*names, *objects.casts}
    texts = [text for _, text, _ in objects.find(asked)]
    return frozenset(asked.union(*(names_in(text or "") for text in texts)))


def bodies(connection: psycopg.Connection[Any], names: Iterable[str]) -> frozenset[str]:
    """The code that statements with these names, in lower case, may run indirectly, to any depth."""
    if connection.execute(_OWN_FUNCTIONS).fetchone() is None:  # the objects are asked for in twenty times as long
        return frozenset()
    objects = Objects(connection)
    found = objects.find({*names, *objects.casts})
    return frozenset(UNREADABLE if text is None else text for _, text, is_body in found if is_body)


def _commands(body: str, forbidden: Set[str]) -> bool:
    """Whether a body may contain a command that is not known to be harmless."""
    code = _COMMENT.sub(r"\1", body)
    return bool(forbidden) or _INLINE.search(code) is not None or _UNREADABLE.search(code) is not None
