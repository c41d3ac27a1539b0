"""Whatever a model, a file or a user wrote is shown as text: parsed as browsers do, nothing of it runs."""

import base64
import hashlib
import re

import pytest
from report_runs import make_run

from constitute.report.build import write_report

html5lib = pytest.importorskip("html5lib")

PAYLOADS = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    '" onfocus="alert(1)" autofocus="',
    "` onload=alert(1) `",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "--><script>alert(1)</script><!--",
    "]]><script>alert(1)</script>",
    "<iframe src=javascript:alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    '<a href="jav&#x09;ascript:alert(1)">x</a>',
    "<object data=data:text/html,x>",
    "<embed src=//evil.example/x.swf>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<form action=//evil.example><input name=x></form>",
    "<math><mi xlink:href=javascript:alert(1)>x</mi></math>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<style>*{background:url(//evil.example)}</style>",
    "<template><script>alert(1)</script></template>",
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;img src=x onerror=alert(1)&#62;",
    "{{ 7 * 7 }}{% for x in y %}",
    "${alert(1)}<%= 7*7 %>",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "\u003cimg src=x onerror=alert(1)\u003e",
    "<ScRiPt/x>alert(1)</sCrIpT>",
]
TAGS = (
    "html head body meta title style header nav main section footer div h1 h2 h3 small p a b br span "
    "dl dt dd table thead tbody tr th td ul li details summary code figure figcaption ins del "
    "svg g rect line circle text path"
)
OURS = set(TAGS.split())


def parsed(page):
    return html5lib.parse(page, treebuilder="etree", namespaceHTMLElements=False)


def elements(tree):
    for element in tree.iter():
        if isinstance(element.tag, str):
            yield element.tag.split("}")[-1], element


@pytest.fixture(scope="module")
def plain_count(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("plain") / "run", 5)
    return sum(1 for _ in elements(parsed(write_report(run).read_text(encoding="utf-8"))))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_of_a_payload_becomes_markup(payload, tmp_path, plain_count):
    run = make_run(tmp_path / "run", 5, word=lambda text: f"{text} {payload}")
    page = write_report(run).read_text(encoding="utf-8")
    tree = parsed(page)
    found = list(elements(tree))
    assert {tag for tag, _ in found} - {"title"} <= OURS
    assert abs(len(found) - plain_count) < plain_count
    for _, element in found:
        for name, value in element.attrib.items():
            assert not str(name).lower().startswith("on"), (name, value)
            assert name not in ("style", "src", "srcdoc", "action", "data", "formaction"), (name, value)
            if str(name).endswith("href"):
                assert re.fullmatch(r"#[a-z]+", value), value
    assert "\x00" not in page
    # It is shown, not dropped: once in the page's text for each place it was put in.
    text = "".join(tree.itertext())
    assert text.count(payload.replace("\x00", "")) > 40


def test_the_same_elements_whatever_the_text(tmp_path, plain_count):
    run = make_run(tmp_path / "run", count=5, word=lambda text: text + "".join(PAYLOADS))
    page = write_report(run).read_text(encoding="utf-8")
    tags = [tag for tag, _ in elements(parsed(page))]
    assert "script" not in tags
    assert tags.count("details") == 4


def test_the_policy_allows_our_style_and_nothing_else(tmp_path):
    page = write_report(make_run(tmp_path / "run")).read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", page, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    assert policy == (f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
    assert not re.search(r"(src|url|@import)\s*[=(]\s*['\"]?(https?:)?//", page)


def test_terminal_and_control_characters_are_gone(tmp_path):
    word = "\x1b[2J\x1b]8;;http://evil.example\x07\u202e\x07\x9b31m".__add__
    run = make_run(tmp_path / "run", word=lambda text: word(text))
    page = write_report(run).read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    assert "evil.example" not in page
