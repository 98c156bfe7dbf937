"""Environments: each extension gets the requested packages, built once, and never a partial environment."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_side
import pytest
from internals import use_uv
from processes import gone
from waiting import eventually

from pyisolate import ConfigurationError, EnvironmentBuildError, Extension, ExtensionStopped
from pyisolate._env import builder as environments
from pyisolate._env.builder import EnvironmentBuilder
from pyisolate._env.pip_settings import pip_settings, uv_environment, uv_options

Load = Callable[..., Extension]
MakeWheel = Callable[[str], Path]


def forbid_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise AssertionError("uv was run")

    monkeypatch.setattr(environments, "find_uv", fail)


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def build(root: Path, *dependencies: str, name: str = "ext") -> Path:
    environment = EnvironmentBuilder(root, name, dependencies).provide()
    environment.release()
    return environment.path


# ---- what the extension sees ----


def test_conflicting_versions_at_once(load: Load, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    make_wheel("2.0")
    old = load("echo", host_side.Hooked, name="old", dependencies=["rivet<2"])
    new = load("echo", host_side.Hooked, name="new", dependencies=["rivet>=2"])
    assert (old.sync.version(), new.sync.version()) == ("1.0", "2.0")


def test_own_version_goes_before_the_hosts(
    load: Load, make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rivet.py").write_text("VERSION = 'host'")
    (tmp_path / "bolt.py").write_text("VERSION = 'host'")
    monkeypatch.syspath_prepend(str(tmp_path))
    make_wheel("1.0")
    extension = load("echo", host_side.Hooked, dependencies=["rivet"])
    assert extension.sync.version("rivet") == "1.0"
    assert extension.sync.version("bolt") == "host"


def test_without_dependencies_no_environment(
    load: Load, venvs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_uv(monkeypatch)
    extension = load("echo")
    assert extension.sync.python() == sys.prefix
    assert not venvs.exists()


def test_programs_of_the_environment_are_found(load: Load, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    extension = load("echo", dependencies=["rivet"])
    prefix = extension.sync.python()
    assert extension.sync.environ("VIRTUAL_ENV") == prefix
    assert extension.sync.environ("PATH").split(":")[0] == f"{prefix}/bin"


def test_hosts_pythonpath_does_not_go_before_the_environment(
    load: Load, make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rivet.py").write_text("VERSION = 'host'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    make_wheel("1.0")
    assert load("echo", host_side.Hooked, dependencies=["rivet"]).sync.version() == "1.0"


def test_editable_dependency(
    load: Load, make_wheel: MakeWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project contains its build backend, so that nothing must be downloaded."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "nail.py").write_text("VERSION = 'edited'")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "nail"\nversion = "1"\n'
    )
    (project / "backend.py").write_text(
        textwrap.dedent("""
            import os, zipfile
            def build_editable(folder, config_settings=None, metadata_directory=None):
                info = "nail-1.dist-info"
                with zipfile.ZipFile(os.path.join(folder, "nail-1-py3-none-any.whl"), "w") as wheel:
                    wheel.writestr("nail.pth", os.path.dirname(os.path.abspath(__file__)))
                    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: nail\\nVersion: 1\\n")
                    wheel.writestr(
                        f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
                    )
                    wheel.writestr(f"{info}/RECORD", "")
                return "nail-1-py3-none-any.whl"
        """)
    )
    extension = load("echo", host_side.Hooked, dependencies=[f"-e {project}"])
    assert extension.sync.version("nail") == "edited"
    assert extension.sync.file("nail") == str(project / "nail.py")


@pytest.mark.parametrize("said", ["PIP_CONSTRAINT", "UV_CONSTRAINT", "UV_OVERRIDE", "pip.conf", "uv.toml"])
def test_constraints_choose_versions(
    tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    make_wheel("1.0")
    make_wheel("2.0")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("rivet<2\n")
    if said == "pip.conf":
        (tmp_path / said).write_text(f"[global]\nconstraint = {constraints}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / said))
    elif said == "uv.toml":
        (tmp_path / said).write_text('constraint-dependencies = ["rivet<2"]\n')
        monkeypatch.chdir(tmp_path)
    else:
        monkeypatch.setenv(said, str(constraints))
    path = build(tmp_path / "venvs", "rivet")
    assert list(path.glob("lib/python*/site-packages/rivet-1.0.dist-info"))


# ---- when it is built ----


def test_unchanged_dependencies_do_not_run_uv(
    tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("1.0")
    first = build(tmp_path / "venvs", "rivet")
    forbid_uv(monkeypatch)
    assert build(tmp_path / "venvs", "rivet") == first
    with pytest.raises(AssertionError):
        build(tmp_path / "venvs", "rivet>=1")


def test_changed_dependencies_replace_an_unused_environment(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    root = tmp_path / "venvs"
    first = build(root, "rivet")
    second = build(root, "rivet>=1")
    assert first != second
    assert folders(root) == [second.name]


def test_an_environment_in_use_is_kept(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    root = tmp_path / "venvs"
    used = EnvironmentBuilder(root, "ext", ["rivet"]).provide()
    second = build(root, "rivet>=1")
    assert folders(root) == sorted([used.path.name, second.name])
    used.release()
    third = build(root, "rivet>=0.9")
    assert folders(root) == [third.name]


def test_who_locks_the_marker_does_not_hold_up_the_host(tmp_path: Path, make_wheel: MakeWheel) -> None:
    """An extension can read the file: a process that it left behind could lock it for ever."""
    make_wheel("1.0")
    path = build(tmp_path / "venvs", "rivet")
    with open(path / "pyisolate.json") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX)
        assert build(tmp_path / "venvs", "rivet") == path
        assert not os.path.samestat(os.fstat(marker.fileno()), os.stat(path / "pyisolate.json"))


def test_a_running_extension_keeps_its_environment(load: Load, make_wheel: MakeWheel, venvs: Path) -> None:
    make_wheel("1.0")
    extension = load("echo", host_side.Hooked, dependencies=["rivet"])
    extension.ensure_process_started()
    build(venvs, "rivet>=1", name="echo")
    assert len(folders(venvs)) == 2
    assert extension.sync.version() == "1.0"
    extension.stop()
    build(venvs, "rivet>=0.9", name="echo")
    assert len(folders(venvs)) == 1


def test_similar_names_do_not_touch_each_other(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    root = tmp_path / "venvs"
    others = [build(root, "rivet", name=name) for name in ("a.1", "a-b", "a b", "ab")]
    own = build(root, "rivet", name="a")
    build(root, "rivet>=1", name="a")
    assert not own.exists()
    assert all(path.exists() for path in others)


def test_an_environment_without_its_interpreter_is_built_again(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    path = build(tmp_path / "venvs", "rivet")
    (path / "bin" / "python").unlink()
    assert build(tmp_path / "venvs", "rivet") == path
    assert (path / "bin" / "python").exists()


def test_several_at_once_build_once(
    tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel("1.0")
    runs = []
    run_uv = EnvironmentBuilder._run_uv

    def count(self: EnvironmentBuilder, arguments: list[str], report: Any) -> None:
        runs.append(arguments[0])
        run_uv(self, arguments, report)

    monkeypatch.setattr(EnvironmentBuilder, "_run_uv", count)
    paths: list[Path] = []
    threads = [
        threading.Thread(target=lambda: paths.append(build(tmp_path / "venvs", "rivet"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(paths) == 4
    assert len(set(paths)) == 1
    assert runs == ["venv", "pip"]


def test_dependencies_are_compiled_when_they_are_installed(
    load: Load, make_wheel: MakeWheel, venvs: Path
) -> None:
    """A confined extension cannot write to its environment, so it would compile them again at each start."""
    make_wheel("1.0")
    load("echo", dependencies=["rivet"]).ensure_process_started()
    assert list(venvs.glob("echo-*/lib/python*/site-packages/__pycache__/rivet.*.pyc"))


# ---- what goes wrong ----


def test_a_failed_install_says_why_and_leaves_nothing(load: Load, make_wheel: MakeWheel, venvs: Path) -> None:
    make_wheel("1.0")
    extension = load("echo", dependencies=["rivet>=7"])
    with pytest.raises(EnvironmentBuildError, match="rivet>=7") as caught:
        extension.sync.echo(1)
    assert "'echo'" in str(caught.value)
    assert "'dependencies'" in str(caught.value)
    assert caught.value.name == "echo"
    assert caught.value.returncode
    assert "rivet" in caught.value.stderr
    assert folders(venvs) == []


def test_a_failed_install_keeps_the_old_environment(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    path = build(tmp_path / "venvs", "rivet")
    with pytest.raises(EnvironmentBuildError):
        build(tmp_path / "venvs", "rivet>=7")
    assert folders(tmp_path / "venvs") == [path.name]


def test_missing_uv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentBuildError, match="pip install uv"):
        build(tmp_path / "venvs", "rivet")
    assert folders(tmp_path / "venvs") == []


def test_a_killed_builder_is_cleaned_up_after(tmp_path: Path, make_wheel: MakeWheel) -> None:
    """The builder is killed by SIGKILL while it holds the lock."""
    make_wheel("1.0")
    root = tmp_path / "venvs"
    source = """
        import os, signal, sys
        from pathlib import Path
        from pyisolate._env.builder import EnvironmentBuilder
        run = EnvironmentBuilder._run_uv
        def die(self, arguments, report):
            run(self, arguments, report)
            os.kill(os.getpid(), signal.SIGKILL)
        EnvironmentBuilder._run_uv = die
        EnvironmentBuilder(Path(sys.argv[1]), "ext", ["rivet"]).provide()
    """
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", textwrap.dedent(source), str(root)]
    died = subprocess.run(command, env=environ, cwd=tmp_path, check=False)
    assert died.returncode == -9
    assert [name for name in folders(root) if name.endswith(".tmp")]
    path = build(root, "rivet")
    assert folders(root) == [path.name]


def test_an_environment_outside_of_the_root_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "venvs"
    root.mkdir()
    link = EnvironmentBuilder(root, "ext", ["rivet"]).path
    link.symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="link"):
        EnvironmentBuilder(root, "ext", ["rivet"])


def test_nothing_is_removed_while_others_wait(
    tmp_path: Path, make_wheel: MakeWheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder that died may have left much."""
    make_wheel("1.0")
    root = tmp_path / "venvs"
    left = root / ".ext.1.00000000.tmp"
    (left / "below").mkdir(parents=True)
    removed: list[str] = []

    def remove(*paths: str) -> None:
        assert not (root / ".ext.lock").exists()
        removed.extend(paths)

    monkeypatch.setattr("pyisolate._env.builder.remove_later", remove)
    build(root, "rivet")
    assert removed == [str(left)]


def test_extensions_share_the_lock_of_their_environment(tmp_path: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    builder = EnvironmentBuilder(tmp_path / "venvs", "ext", ["rivet"])
    first = builder.provide()
    descriptors = set(os.listdir("/proc/self/fd"))
    others = [builder.provide() for _ in range(3)]
    assert set(os.listdir("/proc/self/fd")) == descriptors
    first.release()
    for other in others[:-1]:
        other.release()
        other.release()
    with open(builder.path / "pyisolate.json") as marker:
        with pytest.raises(BlockingIOError):
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        others[-1].release()
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)


SLOW_UV = """#!/bin/sh
sleep 600 &
echo $! >> {pids}
echo started >&2
wait
"""


def test_a_build_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all processes that it has started. A wait for another builder can be ended too."""
    uv = tmp_path / "uv"
    uv.write_text(SLOW_UV.format(pids=tmp_path / "pids"))
    uv.chmod(0o755)
    use_uv(monkeypatch, uv)
    builders = [EnvironmentBuilder(tmp_path / "venvs", "ext", ["rivet"]) for _ in range(2)]
    errors: list[BaseException] = []

    def provide(builder: EnvironmentBuilder) -> None:
        with pytest.raises(ExtensionStopped) as caught:
            builder.provide()
        errors.append(caught.value)

    threads = [threading.Thread(target=provide, args=[builder]) for builder in builders]
    for thread in threads:
        thread.start()
    assert eventually(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text() != "")
    for builder in builders:
        builder.cancel()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 2
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())
    assert folders(tmp_path / "venvs") == []


# ---- pip's configuration, for uv ----


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make the files below tmp_path the only configuration files."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr("pyisolate._env.pip_settings._SYSTEM_FILE", tmp_path / "pip.conf")
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def test_files_and_variables_override_each_other_as_in_pip(tmp_path: Path, home: dict[str, str]) -> None:
    write(tmp_path / "xdg/pip/pip.conf", "[global]\nindex-url = https://site\ntimeout = 1\nproxy = p\n")
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex_url = https://user\n[install]\ntimeout = 2\n")
    write(tmp_path / "prefix/pip.conf", "[global]\ntimeout = 3\nfind-links =\n    /a\n    /b\n")
    settings = pip_settings({**home, "PIP_PROXY": "q", "PIP_PRE": ""})
    assert settings["index-url"] == ["https://user"]
    assert settings["timeout"] == ["2"]
    assert settings["find-links"] == ["/a", "/b"]
    assert settings["proxy"] == ["q"]
    assert "pre" not in settings


def test_null_configuration_file_means_no_files(tmp_path: Path, home: dict[str, str]) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://user\n")
    assert "index-url" not in pip_settings({**home, "PIP_CONFIG_FILE": os.devnull})


def test_an_unreadable_file_says_nothing(tmp_path: Path, home: dict[str, str]) -> None:
    write(tmp_path / ".config/pip/pip.conf", "no section\n")
    write(tmp_path / "prefix/pip.conf", "[global]\ntimeout = 3\n")
    assert pip_settings(home)["timeout"] == ["3"]


def test_uv_is_told_what_pip_knows(home: dict[str, str]) -> None:
    environ = uv_environment(
        {
            **home,
            "PIP_INDEX_URL": "https://main",
            "PIP_EXTRA_INDEX_URL": "https://a https://b",
            "PIP_FIND_LINKS": "/a /b",
            "PIP_TRUSTED_HOST": "a b",
            "PIP_CERT": "/cert",
            "PIP_DEFAULT_TIMEOUT": "180",
            "PIP_PRE": "1",
        }
    )
    expected = {
        "UV_DEFAULT_INDEX": "https://main",
        "UV_INDEX": "https://a https://b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "/a,/b",
        "UV_INSECURE_HOST": "a b",
        "SSL_CERT_FILE": "/cert",
        "UV_HTTP_TIMEOUT": "180",
        "UV_PRERELEASE": "allow",
    }
    assert {name: environ.get(name) for name in expected} == expected


def test_options_without_a_variable(home: dict[str, str]) -> None:
    assert uv_options({**home, "PIP_NO_INDEX": "true", "PIP_ONLY_BINARY": ":all:"}) == [
        "--no-index",
        "--only-binary=:all:",
    ]
    assert uv_options({**home, "PIP_NO_INDEX": "0"}) == []


def test_what_the_user_told_uv_wins(home: dict[str, str]) -> None:
    environ = uv_environment(
        {
            **home,
            "PIP_INDEX_URL": "https://pip",
            "UV_INDEX_URL": "https://uv",
            "UV_INDEX_STRATEGY": "first-index",
        },
        ["https://extension"],
    )
    assert "UV_DEFAULT_INDEX" not in environ
    assert environ["UV_INDEX_STRATEGY"] == "first-index"
    assert environ["UV_INDEX"] == "https://extension"


def test_one_index_keeps_uvs_strategy(home: dict[str, str]) -> None:
    assert "UV_INDEX_STRATEGY" not in uv_environment({**home, "PIP_INDEX_URL": "https://main"})
