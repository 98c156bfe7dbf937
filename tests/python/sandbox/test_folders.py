"""The temporary folders of extensions, and those left by hosts that died."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from waiting import eventually

from pyisolate import Extension
from pyisolate._util.rmtree import remove_tree

Load = Callable[..., Extension]


def test_folders_of_dead_hosts_are_removed_in_the_background(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a start nor an end waits for the removal, however much was left."""
    threads: list[str] = []

    def remove(path: str, *args: Any, **kwargs: Any) -> bool:
        threads.append(threading.current_thread().name)
        return remove_tree(path, *args, **kwargs)

    monkeypatch.setattr("pyisolate._sandbox.policy.remove_tree", remove)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned = tmp_path / "pyisolate-sandbox-abandoned"
    (abandoned / "below").mkdir(parents=True)
    folder = load("prisoner", name="one").sync.folder()
    assert folder.startswith(str(tmp_path))
    assert eventually(lambda: not abandoned.exists())
    assert set(threads) == {"pyisolate-removal"}
    (tmp_path / "pyisolate-other").mkdir()  # not one of these
    monkeypatch.setattr("pyisolate._sandbox.policy._swept", set())
    load("prisoner", name="two").sync.folder()
    assert os.path.exists(folder)
    assert (tmp_path / "pyisolate-other").exists()


def test_temporary_folders_share_one_lock(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = [load("prisoner", name=name).sync.folder() for name in ("one", "two", "three")]
    assert len(set(folders)) == 3
    (host,) = {os.path.dirname(folder) for folder in folders}
    assert os.stat(host).st_mode & 0o777 == 0o700
    links = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert [link for link in links if link.startswith(str(tmp_path))] == [host]


def test_a_host_whose_folder_was_swept_away_makes_another(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = load("prisoner", name="one")
    host = Path(first.sync.folder()).parent
    first.stop()
    shutil.rmtree(host)
    assert Path(load("prisoner", name="two").sync.folder()).parent != host
