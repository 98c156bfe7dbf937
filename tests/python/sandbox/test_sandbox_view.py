"""What a confined extension sees of its host: environment variables, and the host's own files."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from internals import NAMESPACES, leave_out

from pyisolate import ConfigurationError, Extension
from pyisolate._sandbox import policy, variables

Load = Callable[..., Extension]

SECRETS = [
    *("API_TOKEN", "LANGCHAIN_API_KEY", "NVIDIA_API_KEY", "NGC_API_KEY", "LD_ACCESS_TOKEN", "PYTHON_KEYRING"),
    *("PYTHONANYWHERE_API_TOKEN", "LC_PASSWORD", "TORCHHUB_AUTH", "CUDA_CREDENTIALS", "OMP_SECRET"),
    *("LANGSMITH_ENDPOINT", "NVIDIA_PRIVATE", "PYTHON_APP_DSN", "LD_SDK", "LANGFUSE_HOST", "MKL_LICENSE"),
]


# ---- variables ----


def test_variables_are_seen_by_their_exact_names(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    environ = load("prisoner", env={"MINE": "1"}).sync.environ()
    assert not environ.keys() & {*SECRETS}
    assert "secret" not in environ.values()
    assert (environ["MINE"], environ["LANG"], environ["OMP_NUM_THREADS"]) == ("1", "C.UTF-8", "3")
    assert environ["HOME"] == environ["TMPDIR"] != os.environ.get("HOME")


def test_no_name_of_a_secret_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [name for name in variables._SEEN if variables.looks_secret(name)]
    monkeypatch.setattr(variables, "_SEEN", frozenset({"MY_PASSPHRASE", "PATH"}))
    assert variables.without_secrets({"MY_PASSPHRASE": "x", "PATH": "y", "OTHER": "z"}) == {"PATH": "y"}


@pytest.mark.parametrize("start_method", ["fork", "exec"])
def test_a_secret_that_is_given_arrives(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGCHAIN_API_KEY", "of the host")
    environ = load("prisoner", env={"LANGCHAIN_API_KEY": "given"}).sync.environ()
    assert environ["LANGCHAIN_API_KEY"] == "given"


def test_a_home_that_is_given_is_used(load: Load, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    extension = load("prisoner", env={"HOME": str(home)}, sandbox={"writable_paths": [str(home)]})
    environ = extension.sync.environ()
    assert environ["HOME"] == str(home)
    assert environ["TMPDIR"] != str(home)
    assert not [name for name in environ if name.startswith("XDG_")]
    extension.sync.write(str(home / "new"))


# ---- files of the host ----


def files(folder: Path, *names: str) -> list[Path]:
    made = [folder / name for name in names]
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1")
    return made


def expect(extension: Extension, seen: list[Path], unseen: list[Path]) -> None:
    for path in seen:
        assert extension.sync.lock(str(path)), path
    for path in unseen:
        with pytest.raises((PermissionError, FileNotFoundError)):
            extension.sync.lock(str(path))


IMPORTABLE = [
    *("module.py", "package/__init__.py", "package/data.txt", "package/below/more.html"),
    *("package.libs/libx.so", "package-1.0.dist-info/METADATA"),
]
OTHERS = [
    *(".env", ".git/config", "settings.json", "certs/key.pem", "certs/.hidden/x", "instance/app.db"),
    *("instance/config.py", "uploads/photo.jpg", "package/.env", "package/.git/config", "data.zip"),
]


def test_beside_a_program_is_seen_what_can_be_imported(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    expect(load("prisoner"), files(tmp_path, *IMPORTABLE), files(tmp_path, *OTHERS))


def test_a_package_without_init_is_seen_when_it_has_been_imported(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    imported = files(tmp_path, "spacious/module.py", "spacious/data.json", "spacious/below/module.py")
    others = files(tmp_path, "instances/config.py", "spacious/.env")
    try:
        importlib.import_module("spacious.module")
        expect(load("prisoner"), imported, others)
    finally:
        for name in ("spacious", "spacious.module"):
            sys.modules.pop(name, None)


def test_a_prefix_beside_a_program_is_no_more_than_an_interpreters(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``python -m venv .`` in a program's folder, which may have folders with the same names."""
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    own = files(tmp_path, "pyvenv.cfg", "bin/python3", "lib/python3/site-packages/module.py", "lib/libx.so.1")
    programs = ["bin/deploy.sh", "lib/settings.json", "share/dump", "include/x", "library_of_secrets/x"]
    policy.interpreter_files.cache_clear()
    try:
        seen = [*own, *files(tmp_path, *IMPORTABLE)]
        expect(load("prisoner"), seen, files(tmp_path, *OTHERS, *programs))
    finally:
        policy.interpreter_files.cache_clear()


def test_a_prefix_of_its_own_is_an_interpreters(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    own = files(tmp_path, "pyvenv.cfg", "bin/tool", "lib/python3/site-packages/module.py", "share/doc")
    policy.interpreter_files.cache_clear()
    try:
        expect(load("prisoner"), own, files(tmp_path, "etc/passwords"))
    finally:
        policy.interpreter_files.cache_clear()


def test_where_libraries_are_looked_for(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path}/lib64:{tmp_path}/app::relative")
    seen = files(tmp_path, "lib64/libx.so", "lib64/data/x", "app/liby.so.2")
    expect(load("prisoner"), seen, files(tmp_path, "app/.env", "app/key.pem", "app/below/libz.so"))


@pytest.mark.parametrize("namespaces", [True, False])
def test_a_link_in_a_package_leads_nowhere(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespaces: bool
) -> None:
    if not namespaces:
        leave_out(monkeypatch, NAMESPACES)
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    (seen,) = files(tmp_path, "app/package/__init__.py")
    unseen = files(tmp_path, "app/package/.env", "app/package/below/.hidden/x", "elsewhere/key.pem")
    for name, target in [("a", unseen[2]), ("b", unseen[2].parent), ("c", unseen[0]), ("d", unseen[1])]:
        (tmp_path / "app" / "package" / name).symlink_to(target)
    expect(load("prisoner"), [seen], [*unseen, tmp_path / "app/package/a", tmp_path / "app/package/c"])


def test_a_package_with_very_much_in_it(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Uploads of users do not prevent an extension from starting."""
    monkeypatch.setattr("pyisolate._sandbox.readable._MOST_FOLDERS", 20)
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    seen = files(tmp_path, "app/package/__init__.py", "app/other/__init__.py", "app/other/data/x")
    names = [f"app/package/sent/{number}/x" for number in range(40)]
    files(tmp_path, *names, "app/package/deep/" + "d/" * 100 + "x")
    expect(load("prisoner"), seen, [])
    assert "'host_paths'" in caplog.text


def test_host_paths_say_otherwise(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    importable, others = files(tmp_path, *IMPORTABLE), files(tmp_path, *OTHERS)
    wanted = [path for path in others if "instance" in path.parts]
    one = load("prisoner", name="one", sandbox={"host_paths": [str(tmp_path / "instance")]})
    expect(one, wanted, [*importable, *(path for path in others if path not in wanted)])
    chosen = {"host_paths": [str(tmp_path), f"!{tmp_path}/certs", f"!{tmp_path}/package/data.txt"]}
    unwanted = [path for path in [*importable, *others] if "certs" in path.parts or path.name == "data.txt"]
    rest = [path for path in [*importable, *others] if path not in unwanted]
    expect(load("prisoner", name="all", sandbox=chosen), rest, unwanted)


def test_an_exclusion_wins(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It overrides the default, and a broader entry of another list."""
    monkeypatch.syspath_prepend(str(tmp_path / "app"))
    seen, unseen = (
        files(tmp_path / "app", "a.py", "__pycache__/a.1.pyc"),
        files(tmp_path / "app", "keys.py", "__pycache__/keys.1.pyc", "__pycache__/keys.1.opt-1.pyc"),
    )
    given = files(tmp_path / "given", "x", "below/y")
    hidden = files(tmp_path / "given", "secret/x", "below/z")
    excluded = [unseen[0], tmp_path / "given" / "secret", tmp_path / "given" / "below" / "z"]
    config: Any = {
        "host_paths": [f"!{path}" for path in excluded],
        "readonly_paths": [str(tmp_path / "given")],
    }
    expect(load("prisoner", sandbox=config), [*seen, *given], [*unseen, *hidden])


def test_environments_of_others_are_not_seen(
    load: Load, tmp_path: Path, venvs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any depth of a readable folder."""
    seen, unseen = files(tmp_path, "x"), files(venvs, "other/lib/module.py", "other.lock")
    expect(load("prisoner", sandbox={"readonly_paths": [str(tmp_path)]}), seen, unseen)


def test_an_exclusion_has_a_path(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="'host_paths' has an invalid item 0"):
        load(sandbox={"host_paths": ["!"]})
