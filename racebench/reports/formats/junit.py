"""JUnit XML, in the dialect that Jenkins, GitLab, Azure and the others read: one test case a scenario and strategy.

INVALID is a failure, with the witness as its text; UNKNOWN is an error: the test could not be carried out, which is
neither a pass nor something to skip. VALID passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from racebench.core.plain_text import printable
from racebench.core.verdict import Verdict
from racebench.reports.formats import Material, cases
from racebench.reports.formats.cases import Case, Suite


def render(material: Material) -> str:
    """The XML document of the results."""
    return to_xml(cases.suites(material.documents))


def to_xml(suites: Sequence[Suite]) -> str:
    """The XML document of some suites."""
    root = ET.Element(
        "testsuites", {"name": "racebench", **_numbers([case for suite in suites for case in suite.cases])}
    )
    for suite in suites:
        root.append(_suite(suite))
    ET.indent(root)
    # XML 1.0 cannot hold control characters, not even escaped: https://www.w3.org/TR/xml/#charsets
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + printable(ET.tostring(root, encoding="unicode")) + "\n"


def _suite(suite: Suite) -> ET.Element:
    name, begun = f"{suite.scenario} ({suite.driver})", suite.created.removesuffix("Z")
    element = ET.Element("testsuite", {"name": name, "timestamp": begun, **_numbers(suite.cases)})
    properties = ET.SubElement(element, "properties")
    for key, value in (("server", suite.server), ("complete", str(suite.complete).lower())):
        ET.SubElement(properties, "property", name=key, value=value)
    for case in suite.cases:
        element.append(_case(suite, case))
    return element


def _case(suite: Suite, case: Case) -> ET.Element:
    # A dot in a class's name is a package's end to those who read it.
    classname = f"racebench.{suite.driver}.{suite.scenario.replace('.', '-')}"
    element = ET.Element("testcase", classname=classname, name=case.name, time=f"{case.seconds:.3f}")
    said = "\n".join([case.message, *case.details])
    if case.verdict is Verdict.INVALID:
        failure = ET.SubElement(element, "failure", type=",".join(case.found), message=case.message)
        failure.text = said
    elif case.verdict is Verdict.UNKNOWN:
        error = ET.SubElement(element, "error", type=case.verdict.value, message=case.message)
        error.text = said
    else:
        ET.SubElement(element, "system-out").text = said
    return element


def _numbers(cases: Sequence[Case]) -> dict[str, str]:
    verdicts = [case.verdict for case in cases]
    return {
        "tests": str(len(cases)),
        "failures": str(verdicts.count(Verdict.INVALID)),
        "errors": str(verdicts.count(Verdict.UNKNOWN)),
        "time": f"{sum(case.seconds for case in cases):.3f}",
    }
