"""Reads the tables that the benchmarks print."""

from __future__ import annotations

import re

SECTION = re.compile(r"^(Successful Benchmarks|Failed Tests|Skipped Tests):\n((?:[+|].*\n)+)", re.MULTILINE)


def table(text: str, section: str) -> dict[str, list[str]]:
    """Return the rows of a section of the report: the other cells by the first one."""
    sections = dict(SECTION.findall(text + "\n"))
    lines = [line for line in sections.get(section, "").splitlines() if line.startswith("|")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}
