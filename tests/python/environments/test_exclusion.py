"""Extensions cannot see other extensions' environments, wherever these are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import paths
import pytest
from internals import FILES, NAMESPACES, leave_out
from sources import add_source, note

import pyisolate._sandbox.policy
from pyisolate import ConfigurationError, Extension, ExtensionBase, ExtensionManager
from pyisolate._env.builder import EnvironmentBuilder
from pyisolate._sandbox.exclusion import without

PRISONER = paths.EXTENSIONS / "prisoner"

Load = Callable[..., Extension]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The folder of an application, with the environments two levels below it."""
    app = tmp_path / "app"
    (app / "data" / "deep").mkdir(parents=True)
    (app / "data" / "deep" / "table.txt").write_text("x")
    (app / "data" / "link").symlink_to(app)
    return app


@pytest.fixture
def others(app: Path, make_wheel: Callable[[str], Path]) -> list[Path]:
    """Files of another extension: its lock, the marker of its environment, and a package in it."""
    make_wheel("1.0")
    root = app / "data" / "deep" / "venvs"
    environment = EnvironmentBuilder(root, "other", ["rivet"]).provide()
    environment.release()
    module = next(environment.path.glob("lib/python*/site-packages/rivet.py"))
    lock = root / ".other.lock"
    lock.touch()  # as it is while the environment is built
    return [lock, environment.path / "pyisolate.json", module]


@pytest.fixture
def load(app: Path) -> Iterator[Load]:
    root = app / "data" / "deep" / "venvs"
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(root)})

    def load(**config: object) -> Extension:
        return manager.load_extension(
            {"name": "prisoner", "module_path": str(PRISONER), **config}  # type: ignore[typeddict-item]
        )

    yield load
    manager.stop_all_extensions()


def check(extension: Extension, app: Path, others: list[Path]) -> None:
    assert extension.sync.lock(str(app / "data" / "deep" / "table.txt"))
    for path in others:
        for name in (str(path), str(app / "data" / "link" / path.relative_to(app))):
            with pytest.raises((PermissionError, FileNotFoundError)):
                extension.sync.lock(name)
    own = list((app / "data" / "deep" / "venvs").glob("prisoner-*/pyisolate.json"))
    assert len(own) == 1
    assert extension.sync.lock(str(own[0]))


def test_below_a_folder_that_the_host_imports_from(
    load: Load, app: Path, others: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (app / "data" / "__init__.py").touch()
    (app / "data" / "deep" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(app))
    check(load(dependencies=["rivet"]), app, others)


@pytest.mark.parametrize("below", ["", "data", "data/deep", "data/deep/venvs", "data/link"])
def test_below_a_permitted_path(load: Load, app: Path, others: list[Path], below: str) -> None:
    paths = [str(app / below), str(app / "data" / "deep" / "table.txt")]
    check(load(dependencies=["rivet"], sandbox={"readonly_paths": paths}), app, others)


def test_below_a_prefix(load: Load, app: Path, others: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python -m venv .` leaves the folder of an application."""
    monkeypatch.setattr(
        "pyisolate._sandbox.policy.interpreter_files", lambda python: (*REAL(python), str(app))
    )
    check(load(dependencies=["rivet"]), app, others)


REAL = pyisolate._sandbox.policy.interpreter_files


def test_it_is_the_layer_that_holds(
    load: Load, app: Path, others: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch, FILES, NAMESPACES)
    extension = load(dependencies=["rivet"])
    for path in others:
        assert extension.sync.lock(str(path))


def test_builds_see_none_either(
    app: Path, others: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(app))
    add_source(
        tmp_path / "wheels",
        "bolt",
        code=f"""
def readable(path):
    try:
        return bool(open(path))
    except OSError:
        return False
NOTE = [path for path in {[str(path) for path in others]!r} if readable(path)]
""",
    )
    root = app / "data" / "deep" / "venvs"
    environment = EnvironmentBuilder(root, "builds", ["bolt"], allow_source_builds=True).provide()
    environment.release()
    assert note(environment.path) == []


@pytest.mark.parametrize("below", ["", "data", "data/deep", "data/deep/venvs", "data/link"])
def test_nothing_above_it_can_be_writable(load: Load, app: Path, below: str) -> None:
    (app / "data" / "deep" / "venvs").mkdir()
    with pytest.raises(ConfigurationError, match=r"'writable_paths' has .*'venv_root_path'"):
        load(sandbox={"writable_paths": [str(app / below)]}).ensure_process_started()


@pytest.mark.parametrize("below", ["", "data", "data/deep", "data/link"])
def test_nor_before_it_is_made(load: Load, app: Path, below: str) -> None:
    """Otherwise an extension without dependencies could create it, or change what is created in it later."""
    with pytest.raises(ConfigurationError, match=r"'writable_paths' has .*'venv_root_path'"):
        load(sandbox={"writable_paths": [str(app / below)]}).ensure_process_started()


def test_a_link_upwards_is_left_out(app: Path) -> None:
    root = app / "data" / "deep" / "venvs"
    excluded = [str(root)]
    readable, listed = without([str(app), "/usr/lib"], excluded)
    assert sorted(readable) == sorted(["/usr/lib", str(app / "data" / "deep" / "table.txt")])
    assert listed == [str(app), str(app / "data"), str(app / "data" / "deep")]
    root.mkdir()
    (app / "data" / "venvs").symlink_to(root)
    assert without([str(app), "/usr/lib"], excluded) == (readable, listed)
    assert without([os.fspath(root)], excluded) == ([], [])


def test_what_lies_in_it_is_left_out_too(tmp_path: Path) -> None:
    (tmp_path / "hidden" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("hidden/below")
    below = [str(tmp_path / "hidden" / "below"), str(tmp_path / "link")]
    assert without(below, [str(tmp_path / "hidden")]) == ([], [])
    assert without(below, [str(tmp_path / "hidden")], narrower=True) == (below, [])
    assert without(below, [str(tmp_path / "other")]) == (below, [])


def test_another_name_for_a_file_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "other").hardlink_to(tmp_path / "secret")
    (tmp_path / "link").symlink_to("secret")
    (tmp_path / "rest").write_text("x")
    found = without([str(tmp_path)], [str(tmp_path / "secret")])
    assert found == ([str(tmp_path / "rest")], [str(tmp_path)])
