"""Extensions in folders with the name of a module that other code imports."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paths
import pytest

from pyisolate import Extension

Load = Callable[..., Extension]
EXTENSIONS = paths.EXTENSIONS


@pytest.mark.parametrize("name", ["json", "colorsys"])
def test_a_folder_that_hides_a_module_is_told(load: Load, tmp_path: Path, name: str, caplog: Any) -> None:
    """The name of a module of the standard library, imported already or not."""
    shutil.copytree(EXTENSIONS / "echo", tmp_path / name)
    extension = load("echo", module_path=str(tmp_path / name))
    extension.ensure_process_started()
    extension.stop()  # returns when all its log records have arrived
    (told,) = caplog.messages
    assert f"hides '{name}' of " in told
    assert "rename its folder" in told


def test_a_folder_that_hides_a_package_of_the_path_is_told(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """A module that was not imported yet: the extension hides it from later imports."""
    (tmp_path / "site" / "hidden_package").mkdir(parents=True)
    (tmp_path / "site" / "hidden_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    shutil.copytree(EXTENSIONS / "echo", tmp_path / "hidden_package")
    extension = load("echo", module_path=str(tmp_path / "hidden_package"))
    extension.ensure_process_started()
    extension.stop()
    (told,) = caplog.messages
    assert f"hides 'hidden_package' of {tmp_path}/site/hidden_package" in told


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
def test_a_folder_named_like_what_it_imports_is_told(load: Load, tmp_path: Path) -> None:
    (tmp_path / "msgpack").mkdir()
    (tmp_path / "msgpack" / "__init__.py").write_text("from msgpack import packb")
    with pytest.raises(ImportError, match="cannot import name 'packb'") as caught:
        load("echo", module_path=str(tmp_path / "msgpack")).ensure_process_started()
    assert "hides 'msgpack' of " in caught.value.__notes__[0]
