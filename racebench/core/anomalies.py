"""The kinds of anomalies: for each, its definition and everything that is said of it, as data.

To add one, add an entry here and its checker, analysis/checkers/<name>.py. Counting is the checkers' (and, of a
schedule, the explorer's); verdicts, thresholds, tables, sentences and the JSON document read the entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum


class Evidence(Enum):
    """What must be known before a kind can be counted; where it is not, the count says nothing."""

    NUMBERS = "the scenario numbers rows"
    ROWS = "the rows were read from the table, not inferred from what was acknowledged"
    CONSUMER = "a consumer read the rows"
    DENSE = "the numbering has no planned gaps"
    INVARIANTS = "the scenario has an invariant"
    SERIAL_ORDERS = "the serial orders of the same operations were run"
    SCHEDULES = "the same schedule was run without a pooler"


class Subject(Enum):
    """What is judged, which decides the kinds that are forbidden by default."""

    SCENARIO = "a scenario folder"
    OWN_CODE = "a file of SQL, a callable or a program"
    HISTORY = "a history recorded elsewhere"


class TableKind(StrEnum):
    """A table of the terminal that has a column for some kinds only."""

    RUN = "run"
    COMPARISON = "comparison"
    CHECK = "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyKind:
    """One kind of anomaly.

    `description` says what is counted. `needs` is what must be known to count it; `forbidden` are the subjects that it
    makes INVALID unless they say otherwise; `explored` is false for a kind that the few operations of a schedule do not
    show. `added_later`: documents that were written before the kind existed have no count of it. `columns` are the
    tables of the terminal that always have a column for it, `heading` is its column's head if that is not its name,
    `unit` what is counted, `singular` its name for a count of one, `plural` its name in a sentence without a
    count, if they are others.

    `sentence` says how many a run had; it is a format of `{count}`, `{rows}`, `{attempts}`, `{share_of_rows}`,
    `{share_of_attempts}`, `{codes}` (SQLSTATEs); `{count:row is|rows are}` are the words for its number.
    `always_said`: also where the scenario does not forbid it. `sentence_by_consumer` replaces it where several
    consumers read; it also has `{by_consumer}`. `witness_says`: the first witness's own explanation replaces it.

    `advice` is what to do about it. Of several kinds that occurred the one with the lowest `advice_rank` is advised on;
    `advises_strategy`: the recommended strategy is named at its end. `witness_rank` orders the kinds by how much a
    witness explains, the most useful first.
    """

    name: str
    description: str
    needs: frozenset[Evidence] = frozenset()
    forbidden: frozenset[Subject] = frozenset()
    explored: bool = True
    added_later: bool = False
    columns: frozenset[TableKind] = frozenset()
    heading: str = ""
    unit: str = "rows"
    singular: str = ""
    plural: str = ""
    sentence: str
    always_said: bool = False
    sentence_by_consumer: str = ""
    witness_says: bool = False
    advice: str
    advice_rank: int = 9
    advises_strategy: bool = True
    witness_rank: int

    @property
    def head(self) -> str:
        """The head of its column, with a line break where a narrow column needs one."""
        return self.heading or self.name


#: The kind that no invariant and no numbering defines: an outcome that no serial order has.
NON_SERIALIZABLE = "non-serializable"
#: The kind that only a pooler causes: an operation misses what it left in its session of the server.
SESSION_LOST = "session-lost"
_DISAGREES = "See the witness; what was acknowledged and what is in the table do not agree"

_KINDS = (
    AnomalyKind(
        name="duplicates",
        description="rows whose (tenant, version) another row already has",
        needs=frozenset({Evidence.NUMBERS}),
        forbidden=frozenset({Subject.SCENARIO, Subject.HISTORY}),
        columns=frozenset({TableKind.RUN, TableKind.COMPARISON, TableKind.CHECK}),
        heading="dupli-\ncates",
        singular="duplicate",
        sentence="{count} of {rows} {rows:row|rows} {count:has|have} a version that another row already has",
        always_said=True,
        advice="Two sessions took the same version because neither saw the other's row; make one wait for the other",
        advice_rank=2,
        witness_rank=1,
    ),
    AnomalyKind(
        name="missed",
        description="committed rows that the consumer's cursor passed and never delivered",
        needs=frozenset({Evidence.NUMBERS, Evidence.CONSUMER}),
        forbidden=frozenset({Subject.SCENARIO, Subject.HISTORY}),
        columns=frozenset({TableKind.RUN, TableKind.COMPARISON, TableKind.CHECK}),
        plural="missed rows",
        sentence="the consumer never saw {count} of {rows} committed {rows:row|rows} ({share_of_rows})",
        always_said=True,
        sentence_by_consumer="of {rows} committed {rows:row|rows} {by_consumer}",
        advice="Numbers become visible in another order than they were given; make sessions commit in that order",
        advice_rank=3,
        witness_rank=2,
    ),
    AnomalyKind(
        name="redelivered",
        description="deliveries of a row beyond its first",
        needs=frozenset({Evidence.NUMBERS, Evidence.CONSUMER}),
        forbidden=frozenset({Subject.HISTORY}),
        heading="again",
        plural="redelivered rows",
        sentence="{count} {count:row was|rows were} delivered again",
        advice="The consumer's query returns rows at or below its cursor; have it drop those that it has delivered",
        advises_strategy=False,
        witness_rank=3,
    ),
    AnomalyKind(
        name="lost",
        description="operations acknowledged, whose row is absent",
        needs=frozenset({Evidence.NUMBERS, Evidence.ROWS}),
        forbidden=frozenset({Subject.SCENARIO, Subject.HISTORY}),
        columns=frozenset({TableKind.CHECK}),
        plural="lost operations",
        sentence="{count} acknowledged {count:row is|rows are} not there",
        advice=_DISAGREES,
        advice_rank=0,
        advises_strategy=False,
        witness_rank=4,
    ),
    AnomalyKind(
        name="unexpected",
        description="operations reported failed, whose row is present",
        needs=frozenset({Evidence.NUMBERS, Evidence.ROWS}),
        forbidden=frozenset({Subject.SCENARIO, Subject.HISTORY}),
        plural="unexpected rows",
        sentence="{count} {count:operation|operations} reported failed {count:is|are} present",
        advice=_DISAGREES,
        advice_rank=0,
        advises_strategy=False,
        witness_rank=5,
    ),
    AnomalyKind(
        name="violations",
        description="rows that break an invariant of the scenario",
        needs=frozenset({Evidence.INVARIANTS}),
        forbidden=frozenset({Subject.SCENARIO, Subject.OWN_CODE}),
        columns=frozenset({TableKind.RUN, TableKind.COMPARISON, TableKind.CHECK}),
        heading="viola-\ntions",
        singular="violation",
        sentence="{count} {count:row breaks|rows break} an invariant",
        witness_says=True,
        advice="What was read was no longer true when it was acted on; make the check and the write one step",
        advice_rank=1,
        witness_rank=7,
    ),
    AnomalyKind(
        name="refused",
        description="operations that failed only because another session was at work "
        '(class 23, 40, or "already exists")',
        forbidden=frozenset({Subject.OWN_CODE}),
        columns=frozenset({TableKind.CHECK}),
        unit="operations",
        plural="refused operations",
        sentence="{count} of {attempts} {attempts:operation|operations} ({share_of_attempts}) {count:was|were} refused "
        "({codes})",
        advice="Each refusal is an error your user sees; retry it, or make one session wait for the other",
        witness_rank=8,
    ),
    AnomalyKind(
        name="unnumbered",
        description="rows whose version is NULL, which no cursor ever reaches",
        needs=frozenset({Evidence.NUMBERS}),
        forbidden=frozenset({Subject.HISTORY}),
        plural="unnumbered rows",
        sentence="{count} {count:row has|rows have} no version",
        advice=_DISAGREES,
        advice_rank=0,
        advises_strategy=False,
        witness_rank=6,
    ),
    AnomalyKind(
        name="gaps",
        description="numbers never used between the first and the last",
        needs=frozenset({Evidence.NUMBERS, Evidence.DENSE}),
        explored=False,
        columns=frozenset({TableKind.RUN, TableKind.CHECK}),
        singular="gap",
        sentence="{count} {count:gap|gaps}",
        advice="A transaction that rolls back leaves its number unused; take the number from a row that rolls back too",
        witness_rank=10,
    ),
    AnomalyKind(
        name="inversions",
        description="operations that began after another had ended and got a smaller version",
        needs=frozenset({Evidence.NUMBERS}),
        explored=False,
        columns=frozenset({TableKind.CHECK}),
        heading="inver-\nsions",
        singular="inversion",
        sentence="{count} {count:inversion|inversions}",
        advice="Numbers are handed out in another order than operations begin; take each from one counter at its use",
        witness_rank=9,
    ),
    AnomalyKind(
        name=NON_SERIALIZABLE,
        description="schedules whose outcome no serial order of the same operations has",
        needs=frozenset({Evidence.SERIAL_ORDERS}),
        added_later=True,
        unit="schedules",
        singular="non-serializable outcome",
        plural="non-serializable outcomes",
        sentence="{count} {count:outcome|outcomes} that no serial order has",
        advice="What one session read, another changed before the first was done; make one wait for the other, or use "
        "SERIALIZABLE and try again",
        witness_rank=11,
    ),
    AnomalyKind(
        name="out-of-order",
        description="rows delivered to a consumer after a row whose operation began only when theirs had ended",
        needs=frozenset({Evidence.NUMBERS, Evidence.CONSUMER}),
        explored=False,
        added_later=True,
        heading="out of\norder",
        singular="out-of-order row",
        plural="out-of-order rows",
        sentence="{count} {count:row was|rows were} delivered after a row that was committed later",
        advice="The consumer delivers rows in another order than they were committed; if their order matters, number "
        "them in the order of commits, or read a logical replication slot",
        advises_strategy=False,
        witness_rank=12,
    ),
    AnomalyKind(
        name=SESSION_LOST,
        description="operations that failed, or would wait for ever, because a pooler gave them another session of the "
        "server than before",
        needs=frozenset({Evidence.SCHEDULES}),
        added_later=True,
        unit="operations",
        singular="operation that lost its server session",
        plural="operations that lost their server session",
        sentence="{count} {count:operation|operations} failed, or would wait for ever, in another server session",
        advice="A pooler gives each transaction another session of the server; keep what must outlive a transaction (a "
        "lock, a setting, a prepared statement, a temporary table) inside one, or use session pooling",
        witness_rank=13,
    ),
)

#: Every kind by its name, in the order in which counts are published and tables have columns; new ones come at the end.
ANOMALIES: Mapping[str, AnomalyKind] = {kind.name: kind for kind in _KINDS}


def forbidden_by_default(subject: Subject) -> tuple[str, ...]:
    """The kinds that make a verdict INVALID where such a subject does not name any."""
    return tuple(kind.name for kind in _KINDS if subject in kind.forbidden)


def with_every_kind(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts with 0 for the kinds that have no checker, which only the explorer counts."""
    return {**counts, **{kind: 0 for kind in ANOMALIES if kind not in counts}}


def counts_of_document(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts of a document, with 0 for the kinds that were added later; KeyError for any other kind it lacks."""
    later = {name: 0 for name, kind in ANOMALIES.items() if kind.added_later}
    whole = {**later, **counts}
    return {**counts, **{name: whole[name] for name in ANOMALIES}}


def needing(evidence: Evidence) -> tuple[str, ...]:
    """The kinds that cannot be counted without it."""
    return tuple(kind.name for kind in _KINDS if evidence in kind.needs)


def of_table(table: TableKind, *, numbered: bool) -> tuple[AnomalyKind, ...]:
    """The kinds with a column in a table: of scenarios that number rows, or of those that do not."""
    return tuple(kind for kind in _KINDS if table in kind.columns and (Evidence.NUMBERS in kind.needs) == numbered)


def by_witness(kind: str) -> int:
    """A sort key that puts the kinds with the most useful witnesses first."""
    return ANOMALIES[kind].witness_rank
