"""The tables, indexes and predicates of benchmarks/indexes.py: a row that is searched, and then inserted.

The numbers of rows make an index of one page, or one with a root and leaves. A search finds nothing in a gap, which is
`inside` (between two rows of a leaf) or `outside` (beyond the rows of every leaf). For keys without an order (GIN,
tsvector), words that occur in rows, but in no row together, are inside; a word that occurs in no row is outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Rows of a table whose index has one page, and of one whose index has several.
FEW, MANY = 40, 1000
#: The name of the index.
INDEX = "searched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A search that finds nothing, and the row that satisfies it: SQL of a condition and of values."""

    condition: str
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A table with an index, and its gaps. `method` "none" has no index.

    `columns`: of the table `items`, with its constraints. `fill`: the expressions of a row, of `i` from 1. `index`: the
    rest of a CREATE INDEX … ON items. `extension`: one that the server must have. `drawn`: an insert may go to any of
    several leaves that fit equally well, and the server draws one, so the same schedules may end in another way.
    """

    method: str
    predicate: str
    columns: str
    fill: str
    index: str
    inside: Gap
    outside: Gap
    extension: str = ""
    drawn: bool = False

    def setup(self, rows: int) -> str:
        """SQL that makes the table, its rows and its index, with statistics."""
        index = f"CREATE INDEX {INDEX} ON items {self.index};\n" if self.index else ""
        return (
            f"CREATE TABLE items ({self.columns});\n"
            f"INSERT INTO items SELECT {self.fill} FROM generate_series(1, {rows}) AS i;\n"
            f"{index}ANALYZE items;\n"
        )


def _range(method: str, kind: str, *, make: str, index: str) -> Searched:
    """A range type and &&; `make` is a range of two numbers, {0} and {1}."""

    def gap(low: int, high: int) -> Gap:
        value = make.format(low, high)
        return Gap(condition=f"k && {value}", values=value)

    return Searched(
        method=method,
        predicate=f"{kind} &&",
        columns=f"k {kind}",
        fill=make.format("10 * i", "10 * i + 5"),
        index=index,
        inside=gap(206, 208),
        outside=gap(1_000_000, 1_000_002),
    )


def _excluded() -> Searched:
    """An exclusion constraint, which is the way out of the hole of GiST."""
    ranges = _range("gist", "int8range", make=_INT8RANGE, index="")
    constraint = f"CONSTRAINT {INDEX} EXCLUDE USING gist (k WITH &&)"
    return replace(ranges, predicate="int8range &&, EXCLUDE", columns=f"{ranges.columns}, {constraint}")


def _boxes() -> Searched:
    def gap(x: int, y: int) -> Gap:
        box = f"box '({x},{y}),({x + 2},{y + 2})'"
        return Gap(condition=f"k && {box}", values=box)

    return Searched(
        method="gist",
        predicate="box &&",
        columns="k box",
        fill="box(point(10 * (i % 32), 10 * (i / 32)), point(10 * (i % 32) + 4, 10 * (i / 32) + 4))",
        index="USING gist (k)",
        inside=gap(56, 6),
        outside=gap(500_000, 500_000),
    )


def _points(method: str) -> Searched:
    def gap(x: int, y: int) -> Gap:
        return Gap(condition=f"k <@ box '({x - 2},{y - 2}),({x + 2},{y + 2})'", values=f"point({x}, {y})")

    return Searched(
        method=method,
        predicate="point <@ box",
        columns="k point",
        fill="point(10 * (i % 32), 10 * (i / 32))",
        index=f"USING {method} (k)",
        inside=gap(55, 5),
        outside=gap(500_000, 500_000),
    )


def _inet(method: str) -> Searched:
    def gap(address: str) -> Gap:
        return Gap(condition=f"k <<= inet '{address}'", values=f"inet '{address}'")

    return Searched(
        method=method,
        predicate="inet <<=",
        columns="k inet",
        fill="inet '10.0.0.0' + 4 * i",
        index=f"USING {method} (k inet_ops)",
        drawn=method == "gist",
        inside=gap("10.0.0.81"),
        outside=gap("192.168.7.7"),
    )


#: The number of distinct words: a key of a GiST page has a bit for each of its words, so few words leave bits free; an
#: entry of GIN is a word, so an index of several pages needs many.
_WORDS = {"gist": 40, "gin": 2000}


def _tsvector(method: str, *, options: str = "", suffix: str = "") -> Searched:
    words = _WORDS[method]

    def gap(query: str, words: str) -> Gap:
        return Gap(condition=f"k @@ tsquery '{query}'", values=f"tsvector '{words}'")

    return Searched(
        method=method,
        predicate=f"tsvector @@{suffix}",
        columns="k tsvector",
        fill=f"('w' || i % {words} || ' w' || (i + 1) % {words})::tsvector",
        index=f"USING {method} (k){options}",
        drawn=method == "gist",
        inside=gap("w5 & w20", "w5 w20"),
        outside=gap("absent", "absent"),
    )


def _arrays(*, options: str, suffix: str) -> Searched:
    def gap(elements: str) -> Gap:
        return Gap(condition=f"k @> ARRAY[{elements}]", values=f"ARRAY[{elements}]")

    return Searched(
        method="gin",
        predicate=f"int[] @>{suffix}",
        columns="k int[]",
        fill="ARRAY[i, i + 1]",
        index=f"USING gin (k){options}",
        inside=gap("5, 20"),
        outside=gap("1000000"),
    )


def _jsonb(*, options: str, suffix: str) -> Searched:
    def gap(document: str) -> Gap:
        return Gap(condition=f"k @> jsonb '{document}'", values=f"jsonb '{document}'")

    return Searched(
        method="gin",
        predicate=f"jsonb @>{suffix}",
        columns="k jsonb",
        fill="jsonb_build_object('a', i, 'b', i + 1)",
        index=f"USING gin (k){options}",
        inside=gap('{"a": 5, "b": 20}'),
        outside=gap('{"c": 1000000}'),
    )


def _integers(method: str, predicate: str, *, index: str, between: bool = False) -> Searched:
    """Even numbers; inside is an odd number between them."""

    def gap(number: int) -> Gap:
        condition = f"k BETWEEN {number - 4} AND {number + 4}" if between else f"k = {number}"
        return Gap(condition=condition, values=str(number))

    return Searched(
        method=method,
        predicate=predicate,
        columns="k int",
        fill="10 * i",
        index=index,
        inside=gap(205),
        outside=gap(1_000_000),
    )


def _texts(method: str, operator_class: str) -> Searched:
    def gap(prefix: str) -> Gap:
        return Gap(condition=f"k ^@ '{prefix}'", values=f"'{prefix}'")

    return Searched(
        method=method,
        predicate="text ^@",
        columns='k text COLLATE "C"',
        fill="'item ' || lpad(i::text, 5, '0')",
        index=f"USING {method} (k {operator_class})",
        inside=gap("item 00020x"),
        outside=gap("zz"),
    )


def _bookings() -> Searched:
    def gap(low: int) -> Gap:
        return Gap(
            condition=f"room = 3 AND during && int8range({low}, {low + 2})", values=f"3, int8range({low}, {low + 2})"
        )

    return Searched(
        method="gist",
        predicate="room =, int8range && (btree_gist)",
        columns="room int, during int8range",
        fill="i % 5, int8range(10 * i, 10 * i + 5)",
        index="USING gist (room, during)",
        inside=gap(206),
        outside=gap(1_000_000),
        extension="btree_gist",
    )


_INT8RANGE = "int8range({0}, {1})"
_TSTZRANGE = "tstzrange(to_timestamp({0}), to_timestamp({1}))"
_SLOW, _FAST = {"options": " WITH (fastupdate = off)", "suffix": ", fastupdate off"}, {"options": "", "suffix": ""}

SEARCHED = (
    _integers("none", "int =", index=""),
    _integers("btree", "int =", index="(k)"),
    _integers("btree", "int BETWEEN", index="(k)", between=True),
    _texts("btree", "text_ops"),
    _integers("hash", "int =", index="USING hash (k)"),
    _range("gist", "int8range", make=_INT8RANGE, index="USING gist (k)"),
    _range("gist", "tstzrange", make=_TSTZRANGE, index="USING gist (k)"),
    _range("gist", "int8multirange", make="int8multirange(int8range({0}, {1}))", index="USING gist (k)"),
    _points("gist"),
    _boxes(),
    _inet("gist"),
    _tsvector("gist"),
    _bookings(),
    _excluded(),
    _range("spgist", "int8range", make=_INT8RANGE, index="USING spgist (k)"),
    _points("spgist"),
    _inet("spgist"),
    _texts("spgist", "text_ops"),
    *(_arrays(**update) for update in (_FAST, _SLOW)),
    *(_tsvector("gin", **update) for update in (_FAST, _SLOW)),
    *(_jsonb(**update) for update in (_FAST, _SLOW)),
    _integers("brin", "int BETWEEN", index="USING brin (k) WITH (pages_per_range = 1)", between=True),
    _range("brin", "int8range", make=_INT8RANGE, index="USING brin (k) WITH (pages_per_range = 1)"),
)
