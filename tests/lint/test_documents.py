"""What documents say of the tree is true: keys, files, links, walks, records of decisions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from source import ROOT, name

from pyisolate import ExtensionConfig, ExtensionManagerConfig, RestartConfig, SandboxConfig
from pyisolate.config import SandboxLimits

_TEXT = (ROOT / "docs" / "configuration.md").read_text()
_SECTIONS = {
    part.split("\n")[0].strip("`"): part for part in re.split(r"^##+ ", _TEXT, flags=re.MULTILINE)[1:]
}
_EXTENSION = ["An extension", "Dependencies", "Calls and values", "Process", "Keys without effect"]


def keys_of(title: str) -> list[str]:
    """The keys that a section explains: in the rows of its table, or in its text if it has none."""
    section = _SECTIONS[title]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    return rows or re.findall(r"`(\w+)`", section)


@pytest.mark.parametrize(
    ("titles", "config"),
    [
        (["The manager"], ExtensionManagerConfig),
        (_EXTENSION, ExtensionConfig),
        (["restart"], RestartConfig),
        (["sandbox"], SandboxConfig),
        (["limits"], SandboxLimits),
    ],
)
def test_each_key_is_explained_once(titles: list[str], config: Any) -> None:
    keys = [key for title in titles for key in keys_of(title)]
    assert sorted(keys) == sorted(config.__required_keys__ | config.__optional_keys__)


# ---- files, links, walks, records ----

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
HISTORY = ROOT / "docs" / "log"  # tells of files that may be gone
RECORDS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
WALKS = ("docs/architecture.md", "Walks", 7), ("CONTRIBUTING.md", "Walks", 3)
"""Document, section, and how many files a walk in it may name."""

_FILE = re.compile(r"`((?:include|src|binding|pyisolate|tests|tools|benchmarks|docs|examples)/[^` ]*)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def files_named(text: str) -> list[str]:
    """Paths of this repository that stand in `backquotes`, without line numbers and the like."""
    return [path.rstrip("/") for path in _FILE.findall(text) if not set(path) & set("*…<{")]


def anchors(document: Path) -> set[str]:
    """What a forge makes of the headings."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def walks(document: str, section: str) -> dict[str, list[str]]:
    """Files that the table of each walk names, by title."""
    text = (ROOT / document).read_text()
    part = re.split(r"^## ", text.split(f"\n## {section}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    found = {}
    for walk in part.split("\n### ")[1:]:
        rows = re.findall(r"^\| \d+ \| `([^`]+)` \|", walk, re.MULTILINE)
        found[walk.split("\n")[0]] = rows
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_are_named_exist(document: Path) -> None:
    if HISTORY in document.parents or document.name == "CHANGELOG.md":
        return
    assert [path for path in files_named(document.read_text()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(document.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(("document", "section", "most"), WALKS)
def test_walks_name_few_files_that_exist(document: str, section: str, most: int) -> None:
    found = walks(document, section)
    assert len(found) >= 3
    for title, files in found.items():
        assert 2 <= len(set(files)) <= most, title
        assert [path for path in files if not (ROOT / path).is_file()] == [], title


def test_records_of_decisions() -> None:
    index = (ROOT / "docs" / "decisions" / "README.md").read_text()
    for number, record in enumerate(RECORDS, 1):
        text = record.read_text()
        assert record.name.startswith(f"{number:04}-"), "records are numbered one after another"
        title = text.split("\n")[0].removeprefix(f"# {number}. ")
        assert f"| {number} | [{title}]({record.name}) |" in index
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
        assert "\nStatus: " in text
        assert text.count("\n") <= 60, f"{record.name} is longer than a page"
