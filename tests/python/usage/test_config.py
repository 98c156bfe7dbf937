"""Configurations are checked before anything is created, and errors name the key and the remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import paths
import pytest

from pyisolate import (
    ConfigurationError,
    ExtensionBase,
    ExtensionManager,
    ProxiedSingleton,
    PyIsolateError,
    SandboxMode,
)
from pyisolate._settings.validation import check_extension

ECHO = str(paths.EXTENSIONS / "echo")


class Api(ProxiedSingleton):
    pass


def check(**config: Any) -> Any:
    return check_extension({"name": "echo", "module_path": ECHO, **config})  # type: ignore[typeddict-item]


def test_defaults() -> None:
    settings = check()
    assert settings.isolated
    assert settings.dependencies == ()
    assert settings.env == {}
    assert settings.call_timeout is None
    assert settings.value_limit is None
    assert settings.sandbox_mode is SandboxMode.REQUIRED


def test_everything_an_application_may_pass() -> None:
    settings = check(
        module="echo",
        isolated=False,
        dependencies=["numpy"],
        apis=[Api],
        share_torch=False,
        share_cuda_ipc=False,
        sandbox={"writable_paths": ["/tmp"], "readonly_paths": {"/a": "/a"}, "network": False},
        sandbox_mode="disabled",
        env={"A": "b"},
        package_manager="uv",
        execution_model="host-coupled",
        sealed_host_ro_paths=[],
        conda_channels=[],
        cuda_wheels={},
        extra_index_urls=["https://example.org/simple"],
        call_timeout=5,
        start_timeout=0.5,
        value_limit=1 << 33,
    )
    assert settings.value_limit == 1 << 33
    assert not settings.isolated
    assert settings.apis == (Api,)
    assert settings.sandbox_mode is SandboxMode.DISABLED
    assert settings.call_timeout == 5.0


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"dependencys": []}, ["'dependencys'", "did you mean 'dependencies'?"]),
        ({"zzz": 1}, ["'zzz'", "known keys are"]),
        ({"network": True}, ["'network'", "belongs in 'sandbox'"]),
        ({"shared_memory": 1}, ["'shared_memory'", "belongs in 'limits', which belongs in 'sandbox'"]),
        ({"sandbox": {"memory": 1}}, ["'sandbox'", "'memory'", "belongs in 'limits'"]),
        ({"sandbox": {"env": {}}}, ["'sandbox'", "'env'", "belongs beside the other keys"]),
        ({"delay": 1}, ["'delay'", "belongs in 'restart'"]),
        ({"restart": {"limits": 1}}, ["'restart'", "did you mean 'limit'?"]),
        ({"isolated": 1}, ["'isolated'", "True or False"]),
        ({"dependencies": "numpy"}, ["'dependencies'", "list", "write ['numpy']"]),
        ({"dependencies": "not one"}, ["'dependencies'", "must be a list of requirements, not str"]),
        ({"dependencies": ["-r some.txt"]}, ["'-r some.txt'", "list the requirements that are in it"]),
        ({"dependencies": ["requirements.txt"]}, ["'requirements.txt'", "list the requirements"]),
        ({"apis": Api}, ["'apis'", "not the class Api; write [Api]"]),
        ({"dependencies": ["numpy", 3]}, ["'dependencies'", "item 1"]),
        ({"apis": [int]}, ["'apis'", "ProxiedSingleton"]),
        ({"env": {"A": 1}}, ["'env'", "A", "strings"]),
        ({"env": {"A=B": "1"}}, ["'env'", "'A=B'"]),
        ({"env": {"A": "\0"}}, ["'env'"]),
        ({"env": {"PISO_FD": "3"}}, ["'env'", "PISO_FD"]),
        ({"env": {"PYISOLATE_CHILD": "0"}}, ["'env'", "PYISOLATE_CHILD"]),
        ({"call_timeout": 0}, ["'call_timeout'", "positive"]),
        ({"call_timeout": True}, ["'call_timeout'"]),
        ({"value_limit": 0}, ["'value_limit'", "number of bytes"]),
        ({"value_limit": 1e9}, ["'value_limit'", "number of bytes"]),
        ({"start_timeout": float("nan")}, ["'start_timeout'"]),
        ({"sandbox": {"netwrok": True}}, ["'sandbox'", "did you mean 'network'?"]),
        ({"sandbox": {"network": "no"}}, ["'sandbox'", "'network'"]),
        ({"sandbox": {"readonly_paths": {"/a": "/b"}}}, ["'readonly_paths'", "'/b'", "map it to itself"]),
        ({"sandbox": {"writable_paths": "/a"}}, ["'writable_paths'", "list"]),
        ({"sandbox": {"devices": ["/etc/passwd"]}}, ["'devices'", "below /dev"]),
        ({"sandbox": {"devices": ["/dev/../etc"]}}, ["'devices'", "below /dev"]),
        ({"sandbox": {"limits": {"memry": 1}}}, ["'limits'", "did you mean 'memory'?"]),
        ({"sandbox": {"limits": {"memory": "1G"}}}, ["'limits'", "'memory'", "whole number"]),
        ({"sandbox": {"limits": {"memory": 0}}}, ["'memory'", "positive"]),
        ({"sandbox_mode": "maybe"}, ["'sandbox_mode'", "SandboxMode.REQUIRED"]),
        ({"share_cuda_ipc": True}, ["'share_cuda_ipc'", "'share_torch'"]),
        ({"share_torch": "yes"}, ["'share_torch'", "True or False"]),
        ({"package_manager": "conda"}, ["'package_manager'", "not supported yet", "'uv'"]),
        ({"execution_model": "sealed_worker"}, ["'execution_model'", "not supported yet"]),
        ({"conda_dependencies": ["eccodes"]}, ["'conda_dependencies'", "not supported yet"]),
        ({"module_path": "/does/not/exist"}, ["'module_path'", "does not exist"]),
        ({"module_path": __file__}, ["'module_path'", "not a folder"]),
        ({"module_path": str(Path(ECHO).parent)}, ["'module_path'", "__init__.py"]),
        ({"module_path": None}, ["'module_path'", "path"]),
    ],
)
def test_faults_are_named(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(**config)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("key", ["name", "module_path"])
def test_required_keys(key: str) -> None:
    config: Any = {"name": "echo", "module_path": ECHO}
    del config[key]
    with pytest.raises(ConfigurationError, match=f"'{key}' is missing"):
        check_extension(config)


@pytest.mark.parametrize("name", ["a", "with space", "dots.and-dashes_1", "ünïcode", "a" * 100])
def test_good_names(name: str) -> None:
    assert check(name=name).name == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "../a", "/a", "a\nb", "a\0b", "a\x1b", " a", "a" * 101, "ü" * 51, 3, None],
)
def test_bad_names(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="'name'"):
        check(name=name)


@pytest.mark.parametrize(
    "requirement",
    [
        "numpy",
        "numpy<2",
        "numpy >= 1.26, < 3",
        "numpy (>=1.26)",
        "numpy[a,b]==2.*",
        "numpy~=2.0; python_version < '3.14'",
        "a.b_c-d",
        "torch @ https://example.org/torch-2.0-py3-none-any.whl",
        "https://example.org/torch-2.0-py3-none-any.whl",
        "git+https://example.org/project.git@main#egg=project",
        "-e git+https://example.org/project.git",
    ],
)
def test_good_dependencies(requirement: str) -> None:
    assert check(dependencies=[requirement]).dependencies == (requirement,)


def test_local_paths_do_not_depend_on_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    project = str(tmp_path / "project")
    given = ["-e project", "-e ./project[extra]", "--editable=project", "./project", "-e ."]
    expected = [f"-e {project}", f"-e {project}[extra]", f"-e {project}", project, f"-e {tmp_path}"]
    assert list(check(dependencies=given).dependencies) == expected


@pytest.mark.parametrize(
    "requirement",
    [
        "--index-url=https://evil.example",
        "-r requirements.txt",
        "-e",
        "-e --index-url=x",
        "numpy --index-url https://evil.example",
        "numpy\n--index-url https://evil.example",
        "numpy -f /evil",
        "https://example.org/a.whl --no-deps",
        "./does-not-exist",
        "numpy==",
        "num py",
    ],
)
def test_dependencies_cannot_smuggle_options(requirement: str) -> None:
    with pytest.raises(ConfigurationError, match="'dependencies' has an invalid item 0"):
        check(dependencies=[requirement])


def test_a_fault_creates_nothing(tmp_path: Path) -> None:
    root = tmp_path / "venvs"
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(root)})
    with pytest.raises(ConfigurationError):
        manager.load_extension({"name": "../evil", "module_path": ECHO})
    assert not root.exists()
    assert manager.extensions == {}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"venv_root_path": 3},
        {"venv_root_path": ""},
        {"venv_root_path": __file__},
        {"venv_rot": "x"},
        None,
    ],
)
def test_manager_configuration(config: Any) -> None:
    with pytest.raises(ConfigurationError):
        ExtensionManager(ExtensionBase, config)


def test_extension_type_is_checked(tmp_path: Path) -> None:
    not_an_extension: Any = dict
    with pytest.raises(ConfigurationError, match="subclass of ExtensionBase"):
        ExtensionManager(not_an_extension, {"venv_root_path": str(tmp_path)})


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": "venvs"})
    monkeypatch.chdir("/")
    assert manager._root == tmp_path / "venvs"
    assert os.path.isabs(manager._root)


def test_errors_can_be_caught_as_both() -> None:
    with pytest.raises(PyIsolateError):
        check(isolated=1)
    with pytest.raises(ValueError, match="isolated"):
        check(isolated=1)
