"""Two sets of facts have one canonical form if, and only if, their labels can be renamed to each other's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from racebench.exploration.oracle.canonical import Fact, Label, Term, canonical

LABELS = [Label(domain, value) for domain in ("orders", "items") for value in "123"]
TERMS = st.one_of(st.sampled_from(LABELS), st.sampled_from(LABELS[:3]), st.sampled_from([None, "1", "2"]))
FACTS = st.lists(st.tuples(st.sampled_from(["in a", "in b"]), st.tuples(TERMS, TERMS)), min_size=1, max_size=6)


def renamed(facts: Sequence[Fact], names: dict[Label, Label]) -> list[Fact]:
    def new(term: Term) -> Term:
        return names.get(term, term) if isinstance(term, Label) else term

    return [(relation, tuple(map(new, terms))) for relation, terms in facts]


def labels_of(facts: Sequence[Fact]) -> list[Label]:
    return sorted({term for _, terms in facts for term in terms if isinstance(term, Label)})


def are_the_same(one: Sequence[Fact], other: Sequence[Fact]) -> bool:
    """Brute force: try every renaming within the domains."""
    own, others = labels_of(one), labels_of(other)
    return len(own) == len(others) and any(
        all(label.domain == new.domain for label, new in zip(own, order, strict=True))
        and Counter(renamed(one, dict(zip(own, order, strict=True)))) == Counter(other)
        for order in permutations(others)
    )


@given(FACTS)
def test_a_renaming_and_another_order_change_nothing(facts: list[Fact]) -> None:
    names = {label: Label(label.domain, f"other {label.value}") for label in LABELS}
    swapped = {Label("orders", "1"): names[Label("orders", "2")], Label("orders", "2"): names[Label("orders", "1")]}
    again = renamed(facts, names | swapped)
    again.reverse()
    assert canonical(again) == canonical(facts)


@settings(max_examples=300)
@given(FACTS, st.integers(0, 5), TERMS)
def test_forms_are_equal_if_and_only_if_a_renaming_exists(facts: list[Fact], place: int, term: Term) -> None:
    changed = list(facts)
    relation, (_, second) = changed[place % len(facts)]
    changed[place % len(facts)] = (relation, (term, second))
    assert (canonical(changed) == canonical(facts)) == are_the_same(facts, changed)


def test_many_labels_that_are_alike_are_no_trouble() -> None:
    orders: list[Fact] = [("order", (Label("orders", str(number)), "x")) for number in range(60)]
    items: list[Fact] = [
        ("item", (Label("items", str(number)), Label("orders", str(number % 60)))) for number in range(120)
    ]
    assert canonical([*items, *orders]) == canonical([*orders, *reversed(items)])
    moved = [*items[1:], ("item", (Label("items", "0"), Label("orders", "7")))]
    assert canonical([*orders, *moved]) != canonical([*orders, *items])
