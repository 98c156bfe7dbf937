"""Folders with the content of others are removed, and nothing outside them."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest
from waiting import eventually

from pyisolate._util import rmtree as removal
from pyisolate._util.offload import PerProcess
from pyisolate._util.rmtree import remove_later, remove_tree


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


# ---- in the background ----


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> removal._Background:
    made = PerProcess(removal._Background)
    monkeypatch.setattr(removal, "_background", made)
    return made.get()


def fill(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        (path / f"file {number}").touch()
    return path


def test_what_is_large_is_removed_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, background: removal._Background
) -> None:
    monkeypatch.setattr(removal, "AT_ONCE", 10)
    may_begin = threading.Event()
    removal.in_background(lambda _: may_begin.wait(20))
    small, large = fill(tmp_path / "small", 5), fill(tmp_path / "large", 50)
    remove_later(str(small), str(large))
    assert not small.exists()
    assert 0 < len(list(large.iterdir())) < 50
    may_begin.set()
    assert eventually(lambda: not large.exists())
    assert eventually(lambda: background._thread is None)  # and the thread has ended


def test_all_that_is_removed_in_the_background_has_one_budget(
    tmp_path: Path, background: removal._Background
) -> None:
    background._budget = removal.Budget(60, entries=15)
    folders = [fill(tmp_path / str(number), 10) for number in range(3)]
    done = threading.Event()
    for folder in folders:
        removal.remove_in_background(str(folder))
    removal.in_background(lambda _: done.set())
    assert done.wait(20)
    assert [len(list(folder.iterdir())) if folder.exists() else 0 for folder in folders] == [0, 5, 10]


def test_a_removal_that_fails_does_not_end_the_others(
    tmp_path: Path, background: removal._Background
) -> None:
    def fail(_: removal.Budget) -> None:
        raise RuntimeError("not this one")

    folder = fill(tmp_path / "folder", 1)
    removal.in_background(fail)
    removal.remove_in_background(str(folder))
    assert eventually(lambda: not folder.exists())


def test_the_end_of_the_program_ends_it(tmp_path: Path, background: removal._Background) -> None:
    removal.stop_background()
    folder = fill(tmp_path / "folder", 3)
    removal.remove_in_background(str(folder))
    assert eventually(lambda: background._thread is None)
    assert len(list(folder.iterdir())) == 3
