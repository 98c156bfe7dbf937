"""Missing or unwritable folders: the error names the configuration key."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyisolate import ConfigurationError, EnvironmentBuildError, ExtensionBase, ExtensionManager

Plugin = Callable[..., Any]

PLUGIN = """
from pyisolate import ExtensionBase

class E(ExtensionBase):
    def version(self):
        import rivet
        return rivet.VERSION
"""


@pytest.fixture
def config(tmp_path: Path, make_wheel: Callable[[str], Path]) -> Any:
    make_wheel("1.0")
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "__init__.py").write_text(PLUGIN)
    return {"name": "plugin", "module_path": str(tmp_path / "plugin"), "dependencies": ["rivet"]}


@pytest.mark.parametrize("root", ["/proc/nowhere", "{tmp}/file/below"])
def test_a_root_that_cannot_be_made(tmp_path: Path, config: Any, root: str) -> None:
    (tmp_path / "file").touch()
    root = root.format(tmp=tmp_path)
    with ExtensionManager(ExtensionBase, {"venv_root_path": root}) as manager:
        extension = manager.load_extension(config)
        with pytest.raises(EnvironmentBuildError) as caught:
            extension.sync.version()
    assert "'venv_root_path' in the configuration of the manager" in str(caught.value)
    assert root in str(caught.value)
    assert "'dependencies'" not in str(caught.value)


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"'venv_root_path' must be a folder, but .* is a file"):
        ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path / "file")})


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_root_that_cannot_be_written(tmp_path: Path, config: Any) -> None:
    (tmp_path / "venvs").mkdir(mode=0o500)
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path / "venvs")}) as manager:
        extension = manager.load_extension(config)
        with pytest.raises(EnvironmentBuildError, match="'venv_root_path'"):
            extension.sync.version()


def test_a_working_folder_that_was_removed(
    tmp_path: Path, config: Any, venvs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs)}) as manager:
        assert manager.load_extension(config).sync.version() == "1.0"
        with pytest.raises(ConfigurationError, match=r"'module_path'.*working folder .* has been removed"):
            manager.load_extension({"name": "other", "module_path": "./plugin"})
    with pytest.raises(ConfigurationError, match=r"'venv_root_path'.*working folder .* has been removed"):
        ExtensionManager(ExtensionBase, {"venv_root_path": "./venvs"})
