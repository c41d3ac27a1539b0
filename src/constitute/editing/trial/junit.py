"""The tests of a constitution as JUnit XML, which CI servers read: a suite a method, a case an example."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from constitute.editing.trial.figures import ExampleTest, TrialResult
from constitute.text import harmless


def junit(result: TrialResult) -> str:
    """The document. Drafts are skipped cases; an example that could not be asked about is an error."""
    root = ET.Element("testsuites", name=harmless(result.name))
    for method in result.made_by:
        tests = [test for test in result.tests if test.method == method]
        suite = ET.SubElement(root, "testsuite", name=harmless(f"{result.name}, {method}"))
        for test in tests:
            _case(suite, test)
        suite.attrib |= {
            "tests": str(len(tests)),
            "failures": str(sum(test.fails and test.ended != "failed" for test in tests)),
            "errors": str(sum(test.fails and test.ended == "failed" for test in tests)),
            "skipped": str(sum(test.draft for test in tests)),
        }
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.attrib[key]) for suite in root)))
    root.set("time", f"{result.cost.seconds:.3f}")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, test: ExampleTest) -> None:
    name = f"example {test.number} ({test.method})"
    case = ET.SubElement(suite, "testcase", classname=test.principle, name=harmless(name))
    if test.draft:
        ET.SubElement(case, "skipped", message=harmless(f"a draft: {outcome(test)}"))
    elif test.fails:
        kind = "error" if test.ended == "failed" else "failure"
        problem = ET.SubElement(case, kind, type=test.ended, message=harmless(outcome(test)))
        problem.text = harmless(f"{outcome(test)}\nprompt: {test.prompt}")


def outcome(test: ExampleTest) -> str:
    """How a test ended, with P(better) and, where an order was shown, P with each answer first."""
    if test.p_better is None:
        return f"{test.ended}: {test.problem}"
    said = f"{test.ended}: P(better) {test.p_better:.3f}"
    if test.p_better_first is None or test.p_better_second is None:
        return said
    return f"{said}, {test.p_better_first:.3f} shown first, {test.p_better_second:.3f} shown second"
