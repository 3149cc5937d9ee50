"""The facts that make up an effect: two effects are the same if the same facts hold, but for the names of labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from racebench.exploration.oracle.canonical import Fact
from racebench.exploration.oracle.defaults import Column
from racebench.exploration.oracle.effects import Effect, Oracle
from racebench.exploration.oracle.labels import Labels, Terms

#: The place of a value in a list or tuple, in a path of values.py.
_PLACE = re.compile(r"\[\d+\]")


def facts(
    effect: Effect,
    oracle: Oracle,
    among: Collection[int],
    labels: Labels,
    key: Column | None = None,
    *,
    ordered: bool = True,
) -> Iterator[Fact]:
    """The facts of an effect. `among`: the sessions that count; `key`: the column of a row's key.

    `ordered`: the order of what a call returned in a list counts. That of the rows of an answer never does.
    """
    for change in effect.tables:
        table = ".".join(change.table)
        columns = [(*change.table, column) for column in change.columns]
        for relation, rows in ((f"in {table}", change.added), (f"no more in {table}", change.removed)):
            for row in rows:
                yield relation, _flat(labels.term(column, text) for column, text in zip(columns, row, strict=True))
    for identity in effect.undelivered:
        yield "undelivered", (identity,) if key is None else labels.term(key, identity)
    for number in sorted(among):
        session = effect.sessions[number - 1]
        yield f"s{number} ended", ("ok" if session.ok else "failed",)
        if oracle is Oracle.STATE:
            continue
        yield f"s{number} raised", (session.error,)
        for path, text in session.returned:
            where = path if ordered else _PLACE.sub("[]", path)
            yield f"s{number} returned", (*labels.path(number, where), *labels.leaf(number, path, text))
        if oracle is Oracle.ANSWERS:
            for place, told in enumerate(session.told):
                relation = f"s{number} was told {place} {told.statement}"
                yield relation, (told.tag,)
                for row in told.rows:
                    yield (
                        f"{relation}:",
                        _flat(
                            labels.told(number, told.statement, column, text)
                            for column, text in zip(told.columns, row, strict=True)
                        ),
                    )


def _flat(values: Iterable[Terms]) -> Terms:
    return tuple(chain.from_iterable(values))
