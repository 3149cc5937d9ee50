"""A canonical form of facts with labels: equal for two sets of facts if, and only if, labels can be renamed so.

A label is a value that the database made up, such as an identity value; only where it occurs again matters. Labels are
told apart by colour refinement; those that it leaves alike are tried one by one. labels.py says which values they are.
Source: McKay, "Practical Graph Isomorphism" (1981).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """A value that was made up; labels of two domains are never renamed to each other."""

    domain: str
    value: str


#: A value: a text, None for NULL, or a label.
Term = str | Label | None
#: What holds of some values: the name of a relation, and the values.
Fact = tuple[str, tuple[Term, ...]]
#: Facts with ranks in place of labels.
Form = tuple[Any, ...]
_Colours = dict[Label, int]
#: The most facts whose form is remembered.
_MOST_REMEMBERED = 100


def canonical(facts: Iterable[Fact]) -> Form:
    """The canonical form of a multiset of facts."""
    facts = tuple(facts)
    return _remembered(facts) if len(facts) <= _MOST_REMEMBERED else _made(facts)


@lru_cache(maxsize=256)
def _remembered(facts: tuple[Fact, ...]) -> Form:
    """The form of facts that may come again: the runs of one order leave the same, and so do most schedules."""
    return _made(facts)


def _made(facts: Sequence[Fact]) -> Form:
    labels = {term for _, terms in facts for term in terms if isinstance(term, Label)}
    domains = sorted({label.domain for label in labels})
    start = {label: domains.index(label.domain) for label in labels}
    return _form(facts, start)


def _form(facts: Sequence[Fact], colours: _Colours) -> Form:
    """The form of facts whose labels have colours: the facts, and the forms of the parts that alike labels connect."""
    colours = _refined(facts, colours)
    sizes = Counter(colours.values())
    alike = {label for label, colour in colours.items() if sizes[colour] > 1}
    plain = [fact for fact in facts if alike.isdisjoint(fact[1])]
    tied = [fact for fact in facts if not alike.isdisjoint(fact[1])]
    parts = [_least(part, colours, alike) for part in _connected(tied, alike)]
    return tuple(sorted(_signature(fact, colours) for fact in plain)), tuple(sorted(parts))


def _least(facts: Sequence[Fact], colours: _Colours, alike: Set[Label]) -> Form:
    """The least form of a connected part, over the choices of a first label among those of it that are alike."""
    own = {term: colours[term] for _, terms in facts for term in terms if isinstance(term, Label)}
    sizes = Counter(own.values())
    tied = [colour for colour, size in sizes.items() if size > 1]
    if not tied:  # alike only to labels of other parts
        return -1, tuple(sorted(_signature(fact, own, alike) for fact in facts))
    colour = min(tied)
    forms: list[Form] = []
    tried: list[Label] = []
    for label in sorted(label for label, its in own.items() if its == colour):
        if any(_swaps(facts, label, other) for other in tried):
            continue
        tried.append(label)
        # All others come after it.
        forms.append(_form(facts, {other: 2 * its + (its == colour and other != label) for other, its in own.items()}))
    return colour, min(forms)


def _refined(facts: Sequence[Fact], colours: _Colours) -> _Colours:
    """Tell labels apart by the facts that they are in, until that tells no more of them apart."""
    count = len(set(colours.values()))
    while True:
        seen: defaultdict[Label, list[Any]] = defaultdict(list)
        for fact in facts:
            signature = _signature(fact, colours)
            for place, term in enumerate(fact[1]):
                if isinstance(term, Label):
                    seen[term].append((signature, place))
        looks = {label: (colour, tuple(sorted(seen[label]))) for label, colour in colours.items()}
        ranks = {look: rank for rank, look in enumerate(sorted(set(looks.values())))}
        colours = {label: ranks[look] for label, look in looks.items()}
        if len(ranks) == count:
            return colours
        count = len(ranks)


def _signature(fact: Fact, colours: Mapping[Label, int], alike: Set[Label] = frozenset()) -> tuple[Any, ...]:
    """A fact with colours in place of labels, the place where the same label stands first, and whether it is alike."""
    relation, terms = fact
    return relation, tuple(
        ("label", term.domain, colours[term], terms.index(term), term in alike)
        if isinstance(term, Label)
        else (("null",) if term is None else ("text", term))
        for term in terms
    )


def _connected(facts: Sequence[Fact], alike: Set[Label]) -> list[list[Fact]]:
    """The facts in parts: two facts with one of these labels in common are in the same part."""
    parts: list[tuple[set[Label], list[Fact]]] = []
    for fact in facts:
        labels = {term for term in fact[1] if isinstance(term, Label) and term in alike}
        together = (labels, [fact])
        rest = []
        for part in parts:
            if part[0].isdisjoint(labels):
                rest.append(part)
            else:
                together = (together[0] | part[0], part[1] + together[1])
        parts = [*rest, together]
    return [facts_of_part for _, facts_of_part in parts]


def _swaps(facts: Sequence[Fact], one: Label, other: Label) -> bool:
    """Whether swapping two labels changes nothing."""
    swapped = {one: other, other: one}
    renamed = [
        (relation, tuple(swapped.get(term, term) if isinstance(term, Label) else term for term in terms))
        for relation, terms in facts
    ]
    return Counter(renamed) == Counter(facts)
