"""Folders that somebody else has filled are removed, and nothing outside of them."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest

from pyisolate import removal
from pyisolate.removal import remove_tree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "file").write_text("x")
    (folder / "link").symlink_to(outside)
    (folder / "below").mkdir()
    (folder / "below" / "link").symlink_to(outside)
    (folder / "below" / "file").hardlink_to(outside / "file")
    assert remove_tree(str(folder))
    assert (outside / "file").read_text() == "x"
    assert outside.stat().st_mode & 0o777 == 0o755


def test_a_link_in_its_place_stays(folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_text("x")
    (tmp_path / "link").symlink_to(folder)
    assert not remove_tree(str(tmp_path / "link"))
    assert (folder / "file").exists()


def test_folders_without_permissions(folder: Path) -> None:
    (folder / "a" / "b" / "c").mkdir(parents=True)
    for path in (folder / "a" / "b" / "c", folder / "a" / "b", folder / "a", folder):
        path.chmod(0)
    assert remove_tree(str(folder))


def test_many_entries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "MAX_ENTRIES", 10)
    for name in range(25):
        (folder / f"folder {name}").mkdir()
        (folder / f"file {name}").touch()
        (folder / "folder 0" / f"file {name}").touch()
        (folder / "folder 0" / f"folder {name}").mkdir()
    assert remove_tree(str(folder))


def test_somebody_who_goes_on_filling_it_does_not_hold_it_up(folder: Path) -> None:
    over = threading.Event()

    def fill() -> None:
        while not over.is_set():
            for name in ("a", "b"):
                with contextlib.suppress(OSError):
                    os.makedirs(folder / name / "below", exist_ok=True)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        remove_tree(str(folder), 0.2)
    finally:
        over.set()
        thread.join()


def test_what_is_not_there(tmp_path: Path) -> None:
    assert remove_tree(str(tmp_path / "nothing"))
