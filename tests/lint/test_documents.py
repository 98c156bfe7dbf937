"""docs/configuration.md has every key of the configurations, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pyisolate import ExtensionConfig, ExtensionManagerConfig, RestartConfig, SandboxConfig
from pyisolate.config import SandboxLimits

_TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
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
