"""Building an environment runs no code of a package with the host's rights."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import host_side
import pytest
from internals import use_uv
from sources import add_project, add_source, add_wheel, build, touching

from pyisolate import ConfigurationError, EnvironmentBuildError, Extension
from pyisolate._env import builder as environments
from pyisolate._env.requirements import (
    is_local_source,
    is_plain,
    packages_needing_build,
    packages_without_wheels,
)

Load = Callable[..., Extension]
MakeWheel = Callable[[str], Path]


# ---- wheels: nothing of them runs ----


def test_a_pth_file_does_not_run(venvs: Path, wheels: Path, trace: Path) -> None:
    pth = f"import os; open({str(trace)!r}, 'w').close()\n"
    add_wheel(wheels, "bolt", {"bolt.pth": pth, "bolt.py": "", "sitecustomize.py": pth})
    path = build(venvs, "bolt")
    assert list(path.glob("lib/python*/site-packages/bolt.pth"))
    assert list(path.glob("lib/python*/site-packages/__pycache__/bolt.*.pyc"))
    assert not trace.exists()


def test_a_pth_file_does_not_run_when_uv_is_told_to_compile(
    venvs: Path, wheels: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "uv.toml"
    settings.write_text("[pip]\ncompile-bytecode = true\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    add_wheel(wheels, "bolt", {"bolt.pth": f"import os; open({str(trace)!r}, 'w').close()\n"})
    build(venvs, "bolt")
    assert not trace.exists()


def test_a_pth_file_does_not_run_beside_a_project_of_the_hosts(
    venvs: Path, wheels: Path, trace: Path, tmp_path: Path
) -> None:
    add_wheel(wheels, "bolt", {"bolt.pth": f"import os; open({str(trace)!r}, 'w').close()\n"})
    project = add_project(tmp_path / "my project", "nail", "bolt")
    path = build(venvs, str(project))
    assert list(path.glob("lib/python*/site-packages/bolt.pth"))
    assert not trace.exists()


def test_an_interpreter_in_a_wheel_does_not_run(venvs: Path, wheels: Path, trace: Path) -> None:
    script = f"#!/bin/sh\ntouch {trace}\n"
    add_wheel(wheels, "bolt", {"bolt.py": "", "bolt-1.0.data/data/bin/python": script})
    with suppress(EnvironmentBuildError):  # uv may refuse it
        build(venvs, "bolt")
    assert not trace.exists()


def test_what_is_no_python_is_left_alone(venvs: Path, wheels: Path) -> None:
    add_wheel(wheels, "bolt", {"bolt.py": "", "bolt_old.py": "print 'two'\n"})
    assert list(build(venvs, "bolt").glob("lib/python*/site-packages/__pycache__/bolt.*.pyc"))


# ---- source code: refused, with names ----


def test_source_code_is_refused_by_default(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    with pytest.raises(EnvironmentBuildError, match=r"source code of bolt\b.*'allow_source_builds': True"):
        build(venvs, "bolt")
    assert not trace.exists()
    assert list(venvs.iterdir()) == []


def test_an_older_wheel_is_preferred_to_source_code(venvs: Path, wheels: Path, trace: Path) -> None:
    add_source(wheels, "bolt", version="2.0", code=touching(trace))
    add_wheel(wheels, "bolt", {"bolt.py": ""})
    assert list(build(venvs, "bolt").glob("lib/python*/site-packages/bolt-1.0.dist-info"))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["PIP_NO_BINARY", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE"])
def test_preferring_source_code_does_not_permit_it(
    venvs: Path, wheels: Path, trace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1" if name == "UV_NO_BINARY" else "bolt")
    add_source(wheels, "bolt", code=touching(trace))
    with pytest.raises(EnvironmentBuildError, match="only source code of bolt"):
        build(venvs, "bolt")
    assert not trace.exists()


def test_source_code_that_a_project_of_the_hosts_needs_is_refused(
    venvs: Path, wheels: Path, trace: Path, tmp_path: Path
) -> None:
    add_source(wheels, "bolt", code=touching(trace))
    project = add_project(tmp_path / "project", "nail", "bolt")
    with pytest.raises(EnvironmentBuildError, match="only source code of bolt"):
        build(venvs, str(project))
    assert not trace.exists()


# ---- the host's own projects are the host's ----


@pytest.mark.parametrize("form", ["{path}", "nail @ file://{path}", "file://{path}", "{archive}"])
def test_projects_of_the_hosts_are_built(venvs: Path, wheels: Path, tmp_path: Path, form: str) -> None:
    project = add_project(tmp_path / "project", "nail")
    archive = add_source(tmp_path, "nail")
    path = build(venvs, form.format(path=project, archive=archive))
    assert list(path.glob("lib/python*/site-packages/nail.py"))


def test_what_is_the_hosts_own(tmp_path: Path) -> None:
    own = ["-e /a", "/a", "/a[x]", "/a-1.tar.gz", "a @ file:///a", "a[x] @ file:///a.zip", "-e file:///a"]
    others = [
        "a",
        "a>=1",
        "/a-1-py3-none-any.whl",
        "file:///a.whl",
        "a @ https://b/a.tar.gz",
        "git+https://b",
    ]
    assert [text for text in own + others if is_local_source(text)] == own


def test_what_a_build_may_ask_for() -> None:
    plain = ["a", "a.b-c_d", "a>=1,<2", "a (>=1)", "a[x,y]~=1.0 ; python_version < '3'", "a==1.*"]
    plain += ["a >= 1 , < 2", "a  [x , y]  ( >= 1, )", "a\t!=1.0+b", "a;x"]
    others = [
        "",
        "-e a",
        "--index-url=b",
        "a @ b",
        "./a",
        "/a",
        "a/b",
        "a.zip",
        "a.whl",
        "a.tar.gz[x]",
        "a\nb",
        "a ; python_version\n< '3'",
        "a==1 ==1",
    ]
    assert [text for text in plain + others if is_plain(text)] == plain


@pytest.mark.parametrize("part", ["==1  ", "==1 ,", " ", "a-", "[a]", "( "])
def test_what_a_build_asks_for_is_read_once(part: str) -> None:
    """A pattern that can match in many ways would backtrack for ever, and hold the GIL."""
    assert not is_plain("a" + part * (990 // len(part)) + "\0")


def test_words_of_strangers_are_read_once() -> None:
    long = "\n".join(["a" * 4_000, "a-" * 2_000, "a==a" * 1_000] * 500)
    assert packages_without_wheels(f"{long} b==2 has no usable wheels {long}") == ["b"]
    assert packages_needing_build(f"{long} Building source distributions for `c` is disabled {long}") == ["c"]


def test_what_uv_says_is_understood() -> None:
    words = "x\nhint: Wheels are required for\n   `Foo.Bar` because building\n`b==2 has no usable wheels"
    assert packages_without_wheels(words) == ["foo-bar", "b"]
    assert packages_needing_build("cause: Building source distributions for `nut` is disabled") == ["nut"]


def test_keys_need_each_other(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="'build_network' needs 'allow_source_builds'"):
        load("echo", host_side.Hooked, build_network=True)


# ---- what is in the way is named ----


@pytest.mark.parametrize("setting", ["target", "prefix"])
def test_settings_of_uv_that_lead_elsewhere(
    venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    (tmp_path / "uv.toml").write_text(f'[pip]\n{setting} = "{tmp_path}/elsewhere"\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    add_wheel(wheels, "bolt", {"bolt.py": ""})
    with pytest.raises(EnvironmentBuildError, match=rf"elsewhere\. Remove .*'{setting}'"):
        build(venvs, "bolt")


def test_files_are_not_links_to_a_cache(venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No extension can read it."""
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    add_wheel(wheels, "bolt", {"bolt.py": ""})
    (module,) = build(venvs, "bolt").glob("lib/python*/site-packages/bolt.py")
    assert not module.is_symlink()


@pytest.mark.parametrize("name", ["uv.toml", "pyproject.toml"])
@pytest.mark.parametrize("text", ['no-binary-package = ["bolt"]', '{table}pip = {{ no-binary = ["bolt"] }}'])
def test_settings_of_uv_that_permit_builds_are_refused(
    venvs: Path,
    wheels: Path,
    trace: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    text: str,
) -> None:
    """uv would add the setting to the options that the host gives."""
    folder = tmp_path / "app"
    folder.mkdir()
    in_project = name == "pyproject.toml"
    (folder / name).write_text("[tool.uv]\n" * in_project + text.format(table="") + "\n")
    monkeypatch.chdir(folder)
    add_source(wheels, "bolt", code=touching(trace))
    with pytest.raises(EnvironmentBuildError, match=rf"{name} has a setting 'no-binary'"):
        build(venvs, "bolt")
    assert not trace.exists()


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path, wheels: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentBuildError, match=r"'venv_root_path' .*/file/venvs"):
        build(tmp_path / "file" / "venvs", "rivet")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("failed to write: No space left on device (os error 28)", "UV_CACHE_DIR"),
        ("cause: Permission denied (os error 13)", "'venv_root_path'"),
        ("error: Failed to fetch: `https://a/b/`\ncause: dns error", "network"),
        ("error: No solution found when resolving dependencies", "'dependencies'"),
    ],
)
def test_the_remedy_is_for_what_has_failed(
    venvs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, remedy: str
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\ncat >&2 <<'.'\n{words}\n.\nexit 1\n")
    uv.chmod(0o755)
    use_uv(monkeypatch, uv)
    with pytest.raises(EnvironmentBuildError) as caught:
        build(venvs, "rivet")
    assert remedy in str(caught.value).splitlines()[-1]


def test_a_working_folder_that_has_been_removed(venvs: Path, make_wheel: MakeWheel, tmp_path: Path) -> None:
    make_wheel("1.0")
    source = """
        import os, sys
        from pathlib import Path
        from pyisolate._env.builder import EnvironmentBuilder
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        EnvironmentBuilder(Path(sys.argv[1]), "ext", ["rivet"]).provide()
    """
    command = [sys.executable, "-c", textwrap.dedent(source), str(venvs)]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert list(venvs.glob("ext-*/pyisolate.json"))


# ---- locks ----


def lock_in_another_process(path: Path, then: str) -> subprocess.Popen[str]:
    """Lock the file, print that it is locked, and continue with `then`."""
    source = (
        f"import fcntl, os, signal, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, 2)\n{then}"
    )
    process = subprocess.Popen([sys.executable, "-c", source, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_who_has_a_lock_and_is_stopped_is_named(
    venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(environments, "LOCK_LIMIT", 1.0)
    monkeypatch.setattr(environments, "LOCK_WARNING", 0.5)
    venvs.mkdir()
    then = "print('locked', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"
    holder = lock_in_another_process(venvs / ".ext.lock", then)
    try:
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(EnvironmentBuildError, match=rf"process {holder.pid} \(.*\), which is stopped"):
            build(venvs, "rivet")
    finally:
        holder.kill()
        holder.communicate()
    assert f"locked by process {holder.pid}" in caplog.text


def test_a_lock_of_a_process_that_dies_is_free(venvs: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    venvs.mkdir()
    holder = lock_in_another_process(venvs / ".ext.lock", "print('locked', flush=True); time.sleep(0.5)")
    build(venvs, "rivet")
    assert holder.wait() == 0
    holder.communicate()


def test_a_copy_of_a_lock_in_a_forked_process_locks_nothing(venvs: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    builder = environments.EnvironmentBuilder(venvs, "ext", ["rivet"])
    venvs.mkdir()
    with builder._locked():
        pid = os.fork()
        if pid == 0:
            signal.pause()
    try:
        build(venvs, "rivet")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_lock_that_was_removed_locks_nothing(venvs: Path) -> None:
    venvs.mkdir()
    first, second = (environments.EnvironmentBuilder(venvs, "ext", ["rivet"]) for _ in range(2))
    with first._locked():
        (venvs / ".ext.lock").unlink()
        with second._locked():
            descriptor = first._try_lock(venvs / ".ext.lock")
            assert descriptor == -1


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_named(
    venvs: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(*arguments: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(EnvironmentBuildError, match=r"\.ext\.lock cannot be locked.*'venv_root_path'"):
        build(venvs, "rivet")


def test_a_lock_is_waited_for_with_a_limit(
    venvs: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "LOCK_LIMIT", 0.2)
    venvs.mkdir()
    with open(venvs / ".ext.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentBuildError, match=rf"process {os.getpid()} \(.*'venv_root_path'"):
            build(venvs, "rivet")


def test_no_lock_is_left(venvs: Path, make_wheel: MakeWheel) -> None:
    make_wheel("1.0")
    build(venvs, "rivet")
    with pytest.raises(EnvironmentBuildError):
        build(venvs, "not-there")
    assert [path.name for path in venvs.glob(".*")] == []


def test_one_builds_at_a_time_although_locks_are_removed(venvs: Path) -> None:
    """Each process continues the count of the others, in a file that one process at a time may write."""
    venvs.mkdir()
    count = venvs / "count"
    count.write_text("0")
    source = """
        import sys, time
        from pathlib import Path
        from pyisolate._env import builder as environment
        environment.LOCK_POLL_INTERVAL = 0.0005
        root = Path(sys.argv[1])
        builder = environment.EnvironmentBuilder(root, "ext", ["rivet"])
        for _ in range(100):
            with builder._locked():
                number = int((root / "count").read_text())
                time.sleep(0.0005)
                (root / "count").write_text(str(number + 1))
    """
    command = [sys.executable, "-c", textwrap.dedent(source), str(venvs)]
    processes = [subprocess.Popen(command, cwd="/") for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert count.read_text() == "400"
    assert [path.name for path in venvs.iterdir()] == ["count"]
