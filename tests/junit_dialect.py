"""JUnit XML: what the published dialect allows, and what is wrong with a document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

#: The dialect as Jenkins's xUnit plugin publishes it (junit-10.xsd): attributes that must be there, that may, children.
DIALECT: Mapping[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": (
        {"name"},
        {"time", "classname", "group"},
        {"skipped", "error", "failure", "system-out", "system-err"},
    ),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
    "system-err": (set(), set(), set()),
}
SUREFIRE_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")
TEXT = {"failure", "error", "skipped", "system-out", "system-err"}


def problems(text: str) -> list[str]:
    """What is wrong with a JUnit document, by the published dialect and by adding up."""
    root = ET.fromstring(text)  # raises on anything that is not XML
    found = [] if root.tag == "testsuites" else [f"the root is {root.tag}"]
    for element in root.iter():
        if element.tag not in DIALECT:
            found.append(f"{element.tag} is unknown")
            continue
        required, optional, children = DIALECT[element.tag]
        found += [f"{element.tag} lacks {name}" for name in required - set(element.attrib)]
        found += [f"{element.tag} may not have {name}" for name in set(element.attrib) - required - optional]
        found += [f"{element.tag} may not hold {child.tag}" for child in element if child.tag not in children]
        if element.tag not in TEXT and (element.text or "").strip():
            found.append(f"{element.tag} may not hold text")
        time = element.get("time")
        if time is not None and not SUREFIRE_TIME.fullmatch(time):
            found.append(f"{element.tag} has time {time}")
        if element.tag in ("testsuites", "testsuite"):
            every = list(element.iter("testcase"))
            for name, what in (("failures", "failure"), ("errors", "error")):
                if element.get(name) != str(sum(case.find(what) is not None for case in every)):
                    found.append(f"{element.tag} counts {name} wrong")
            if element.get("tests") != str(len(every)):
                found.append(f"{element.tag} counts tests wrong")
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    if len(set(names)) < len(names):
        found.append("two test cases have one name")
    return found
