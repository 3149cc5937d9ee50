"""A sequence diagram in Mermaid's language: what each session sent, what came back, who waited.

Source: mermaid.js.org, "Sequence diagrams": `;` and a line's end end a message, `#` begins an entity, as in `#59;`.
"""

from __future__ import annotations

from collections.abc import Iterator

from racebench.demo.frames import Frame
from racebench.demo.shown import Shown

_LONGEST = 70
_ENTITIES = {"#": "#35;", ";": "#59;", "<": "#lt;", ">": "#gt;", "&": "#amp;", '"': "#quot;", "%": "#37;"}


def escape(text: str) -> str:
    """Text that is no more than text to Mermaid."""
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    escaped = "".join(_ENTITIES.get(each, each) for each in text)
    for word in ("style", "classDef"):  # behind these, Mermaid takes the `;` of an entity for the end of a colour
        escaped = escaped.replace(word, f"#{ord(word[0])};{word[1:]}")
    return escaped


def render(shown: Shown) -> str:
    """The diagram, all acts one after the other."""
    lanes = max((frame.lanes for frame in shown.frames), key=len)
    lines = ["sequenceDiagram", f"    title: {escape(shown.title)}"]
    lines += [f"    participant {lane.name} as {escape(lane.title)}" for lane in lanes]
    lines.append("    participant db as PostgreSQL")
    for frames in shown.acts:
        everybody = f"{lanes[0].name},db"
        lines.append(f"    Note over {everybody}: {escape(frames[0].heading)}")
        for frame in frames:
            lines += [f"    {line}" for line in _step(frame)]
        verdict = f"LOST: {frames[-1].verdict}" if frames[-1].losses else frames[-1].verdict
        lines.append(f"    Note over {everybody}: {escape(verdict)}")
    return "\n".join([*lines, ""])


def _step(frame: Frame) -> Iterator[str]:
    taken = frame.taken
    if taken is None:
        return
    name = f"s{taken.session}"
    yield f"{name}->>db: {escape(taken.sent)}"
    if taken.waits_for:
        stands = next(lane.stands for lane in frame.lanes if lane.name == name)
        yield f"Note over {name}: {escape(stands)}"
    elif taken.answer:
        yield f"db-->>{name}: {escape(taken.answer)}"
    for each in taken.went_on:
        yield f"db-->>s{each.session}: goes on{escape(f': {each.answer}' if each.answer else '')}"
