"""The programs in README.md and docs/guide.md print what these say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import paths
import pytest

DOCUMENTS = (paths.ROOT / "README.md", paths.ROOT / "docs" / "guide.md")

_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def programs() -> dict[str, tuple[dict[str, str], str]]:
    """For each section title: its files by name, and the output of its host."""
    found = {}
    sections = [section for document in DOCUMENTS for section in document.read_text().split("\n## ")[1:]]
    for section in sections:
        blocks = _BLOCK.findall(section)
        files = {text.split("\n")[0].removeprefix("# "): text for kind, text in blocks if kind == "python"}
        if files:
            found[section.split("\n")[0]] = files, "".join(text for kind, text in blocks if kind == "text")
    return found


PROGRAMS = programs()


def test_there_are_some() -> None:
    assert len(PROGRAMS) >= 4
    assert "Example" in PROGRAMS  # in README.md
    assert all("host.py" in files and output for files, output in PROGRAMS.values())


@pytest.mark.parametrize("title", PROGRAMS)
def test_it_prints_what_the_document_says(title: str, tmp_path: Path) -> None:
    files, output = PROGRAMS[title]
    if "import pandas" in files["host.py"]:
        pytest.importorskip("pandas")
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "host.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout) == (0, output), done.stderr
