"""Folders of the repository."""

from __future__ import annotations

from pathlib import Path

HELPERS = Path(__file__).parent
HERE = HELPERS.parent
"""The folder of these tests."""
EXTENSIONS = HERE / "extensions"
"""Extensions that the tests load."""
ROOT = HERE.parents[1]
