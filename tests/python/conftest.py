"""Fixtures of the Python tests: managers that stop their extensions, and wheels built on the spot."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from pyisolate import Extension, ExtensionBase, ExtensionManager, SandboxMode, singleton_scope

# No test asserts a time: a busy machine is no failure. Hypothesis allows an example 200 ms, which a
# process that waits for a processor exceeds, and reports the test as flaky if the next try is faster.
settings.register_profile("pyisolate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pyisolate")

HERE = Path(__file__).parent
HELPERS, EXTENSIONS = HERE / "helpers", HERE / "extensions"
# For peers.py, and for host_side.py, which extensions find on the host's path.
sys.path += [str(HELPERS), str(EXTENSIONS)]

# A background job of a shell ignores the signal, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

if "CHILD_COVERAGE" in os.environ:
    import child_coverage

    child_coverage.begin(os.environ["CHILD_COVERAGE"])


@pytest.fixture(autouse=True)
def fresh_singletons() -> Iterator[None]:
    with singleton_scope():
        yield


@pytest.fixture
def venvs(tmp_path: Path) -> Path:
    return tmp_path / "venvs"


@pytest.fixture
def start_method() -> str:
    """How `load` starts processes; test_zygote.py runs tests of other files with each method."""
    return "auto"


@pytest.fixture
def load(venvs: Path, start_method: Any) -> Iterator[Callable[..., Extension]]:
    """load(folder in extensions/, extension type, **configuration): the proxy."""
    managers = []

    def load(folder: str = "echo", extension_type: type[Any] = ExtensionBase, **config: Any) -> Extension:
        manager = ExtensionManager(
            extension_type, {"venv_root_path": str(venvs), "start_method": start_method}
        )
        managers.append(manager)
        return manager.load_extension({"name": folder, "module_path": str(EXTENSIONS / folder), **config})

    yield load
    for manager in managers:
        manager.stop_all_extensions()


@pytest.fixture
def plugin(load: Callable[..., Extension], tmp_path: Path) -> Iterator[Callable[..., Extension]]:
    """plugin(source, extension type, **configuration): an extension of this module; `name` is its folder."""

    def make(source: str, extension_type: type[Any] = ExtensionBase, **config: Any) -> Extension:
        folder = tmp_path / "plugins" / config.setdefault("name", "plugin")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(textwrap.dedent(source))
        return load("", extension_type, **{"module_path": str(folder), **config})

    yield make
    for name, module in list(sys.modules.items()):  # of those that ran in this process
        if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}/plugins/"):
            del sys.modules[name]


@pytest.fixture
def forked(venvs: Path) -> Iterator[Callable[..., Extension]]:
    """forked(name, folder, **configuration): an extension, by default `probe`, forked and not confined."""
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(venvs), "start_method": "fork"})

    def load(name: str = "probe", folder: str = "probe", **config: Any) -> Extension:
        path = str(EXTENSIONS / folder)
        return manager.load_extension(
            {"name": name, "module_path": path, "sandbox_mode": SandboxMode.DISABLED, **config}
        )

    yield load
    manager.stop_all_extensions()


@pytest.fixture(scope="module")
def tensor_extensions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Extension]]:
    """One extension that shares, one that copies, for all tests of a file: each must import torch first."""
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path_factory.mktemp("venvs"))})
    yield {
        name: manager.load_extension(
            {
                "name": name,
                "module_path": str(EXTENSIONS / "tensors"),
                "sandbox_mode": SandboxMode.DISABLED,
                "share_torch": name == "shared",
            }
        )
        for name in ("shared", "standard")
    }
    manager.stop_all_extensions()


@pytest.fixture
def make_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """make_wheel(version): a wheel of rivet, a module with only a version, where pip and uv find it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))

    def make(version: str) -> Path:
        name = "rivet"
        info = f"{name}-{version}.dist-info"
        wheel = folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(
                f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
            )
        return wheel

    return make


@pytest.fixture
def wheels(make_wheel: Callable[[str], Path], tmp_path: Path) -> Path:
    """The folder in which pip and uv find packages."""
    return tmp_path / "wheels"


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A file that no code may create in the host."""
    return tmp_path / "trace"
