"""Git repositories are fetched without running their code, and built in a sandbox."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from internals import FILES, NAMESPACES, leave_out
from sources import add_source, add_wheel, build, note, source_files, touching

from pyisolate import EnvironmentBuildError
from pyisolate._env.commands import Commands
from pyisolate._env.fetch import fetch_repository
from pyisolate._env.requirements import Source, is_plain, remote_source, unsupported_repository


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def git(folder: Path, *arguments: str) -> str:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always")
    command = ["git", *who, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environ, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "x")
    git(folder, "update-server-info")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "bolt"
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


@pytest.fixture
def url(repository: Path) -> Iterator[str]:
    """The URL of the repository."""
    handler = functools.partial(Silent, directory=str(repository.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"git+http://127.0.0.1:{server.server_port}/bolt/.git"
        server.shutdown()


def saying(text: str) -> dict[str, str]:
    return source_files("bolt", code=f"NOTE = {text!r}")


def test_a_repository_is_refused_by_default(
    venvs: Path, wheels: Path, repository: Path, url: str, trace: Path
) -> None:
    commit(repository, source_files("bolt", code=touching(trace)))
    for form in (f"bolt @ {url}", f"{url}#egg=bolt"):
        with pytest.raises(EnvironmentBuildError, match=r"source code of bolt .*'allow_source_builds': True"):
            build(venvs, form)
    assert not trace.exists()


@pytest.mark.parametrize(
    "form", ["bolt @ {url}", "{url}#egg=bolt", "{url}", "bolt[x] @ {url} ; python_version > '3'"]
)
def test_a_repository_is_built_confined(
    venvs: Path, wheels: Path, repository: Path, url: str, trace: Path, form: str
) -> None:
    commit(repository, source_files("bolt", code=touching(trace)))
    assert note(build(venvs, form.format(url=url), allow_source_builds=True)) == "refused"
    assert not trace.exists()


def test_it_is_the_sandbox_that_holds(
    venvs: Path, wheels: Path, repository: Path, url: str, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_out(monkeypatch, FILES, NAMESPACES)
    commit(repository, source_files("bolt", code=touching(trace)))
    assert note(build(venvs, f"bolt @ {url}", allow_source_builds=True)) == "ran"


@pytest.mark.parametrize("revision", ["branch/x", "v1", "{full}", "{short}", "v2"])
@pytest.mark.parametrize("local", [False, True])
def test_revisions(venvs: Path, wheels: Path, repository: Path, url: str, revision: str, local: bool) -> None:
    """Branches, tags (also annotated ones), commits and abbreviated commits."""
    wanted = commit(repository, saying("wanted"))
    git(repository, "branch", "branch/x")
    git(repository, "tag", "v1")
    git(repository, "tag", "--annotate", "--message", "x", "v2")
    commit(repository, saying("newer"))
    place = f"git+{repository.as_uri()}" if local else url
    revision = revision.format(full=wanted, short=wanted[:9])
    assert note(build(venvs, f"bolt @ {place}@{revision}", allow_source_builds=True)) == "wanted"
    assert note(build(venvs, f"bolt @ {place}", allow_source_builds=True)) == "newer"


def test_a_project_in_a_folder_of_it(venvs: Path, wheels: Path, repository: Path, url: str) -> None:
    files = {f"python/bolt/{name}": text for name, text in saying("below").items()}
    commit(repository, {"README": "x", **files})
    place = f"bolt @ {url}#subdirectory=python/bolt"
    assert note(build(venvs, place, allow_source_builds=True)) == "below"
    with pytest.raises(EnvironmentBuildError, match="no folder 'other'"):
        build(venvs, f"bolt @ {url}#subdirectory=other", allow_source_builds=True)


def test_a_build_sees_the_history(venvs: Path, wheels: Path, repository: Path, url: str) -> None:
    """Projects determine their version from it."""
    code = (
        "import subprocess\nNOTE = subprocess.run(['git', 'describe'], capture_output=True, text=True).stdout"
    )
    commit(repository, {"README": "x"})
    git(repository, "tag", "--annotate", "--message", "x", "v7")
    commit(repository, source_files("bolt", code=code))
    assert note(build(venvs, f"bolt @ {url}", allow_source_builds=True)).startswith("v7-1-g")


def test_what_a_repository_says_about_checking_out(
    venvs: Path,
    wheels: Path,
    repository: Path,
    url: str,
    tmp_path: Path,
    trace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user's filters are not run, and submodules are not fetched."""
    settings = tmp_path / "gitconfig"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {trace}\ncat\n")
    program.chmod(0o755)
    settings.write_text(
        f'[filter "x"]\n smudge = {program}\n process = {program}\n required = true\n'
        f"[core]\n hooksPath = {tmp_path}/hooks\n fsmonitor = {program}\n[diff]\n external = {program}\n"
        '[protocol "file"]\n allow = always\n[submodule]\n recurse = true\n'
        "[fetch]\n recurseSubmodules = true\n"
    )
    (tmp_path / "hooks").mkdir()
    for name in ("post-checkout", "reference-transaction", "post-merge", "pre-auto-gc"):
        (tmp_path / "hooks" / name).symlink_to(program)
    files = saying("built")
    commit(
        repository,
        {**files, ".gitattributes": "* filter=x diff=x\n", "hooks/post-checkout": program.read_text()},
    )
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    commit(other, {"x": "x"})
    git(repository, "submodule", "--quiet", "add", str(other), "sub")
    commit(repository, {})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert note(build(venvs, f"bolt @ {url}", allow_source_builds=True)) == "built"
    assert not trace.exists()


@pytest.mark.parametrize(
    "place",
    [
        *("git+ext::{program}", "git+ssh://-oProxyCommand={program}/x", "git+{url}@--upload-pack={program}"),
        *("git+fd::17/x", "git+ftp://127.0.0.1/x", "git+{url}@a..b", "git+{url}@+refs/heads/main"),
    ],
)
def test_urls_that_would_run_something(
    venvs: Path, wheels: Path, repository: Path, url: str, tmp_path: Path, trace: Path, place: str
) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    commit(repository, saying("x"))
    requirement = f"bolt @ {place.format(program=program, url=url.removeprefix('git+'))}"
    with pytest.raises(EnvironmentBuildError, match="bolt"):
        build(venvs, requirement, allow_source_builds=True)
    assert not trace.exists()


def test_settings_do_not_lead_to_another_protocol(tmp_path: Path, repository: Path) -> None:
    commit(repository, {"bolt.py": ""})
    environ = {
        **os.environ,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{repository}.insteadOf",
        "GIT_CONFIG_VALUE_0": "http://localhost/bolt.git",
    }
    source = Source("bolt", "http://localhost/bolt.git", revision="main")
    with pytest.raises(OSError, match="transport 'file' not allowed"):
        fetch_repository(source, tmp_path, environ, Commands("ext"))


def test_a_repository_that_a_package_names(
    venvs: Path, wheels: Path, repository: Path, url: str, tmp_path: Path
) -> None:
    """It is not fetched, and the error says what to do."""
    commit(repository, saying("x"))
    add_wheel(repository.parent, "nail", {"nail.py": ""}, f"bolt @ git+{repository.as_uri()}")
    wheel = url.removeprefix("git+").replace("bolt/.git", "nail-1.0-py3-none-any.whl")
    with pytest.raises(EnvironmentBuildError, match=r"(?s)bolt.*'dependencies'"):
        build(venvs, f"nail @ {wheel}", allow_source_builds=True)


def test_conditions(venvs: Path, wheels: Path, repository: Path, url: str) -> None:
    """Requirements for other systems are ignored."""
    commit(repository, saying("x"))
    add_source(repository.parent, "bolt")
    archive = url.removeprefix("git+").replace("bolt/.git", "bolt-1.0.tar.gz")
    for place in (url, archive):
        build(venvs, f"bolt @ {place} ; sys_platform == 'win32'")
        with pytest.raises(EnvironmentBuildError, match=r"source code of bolt .*'allow_source_builds': True"):
            build(venvs, f"bolt @ {place} ; sys_platform == 'linux'")


@pytest.mark.parametrize("kind", ["hg", "svn", "bzr"])
def test_repositories_of_other_kinds(venvs: Path, wheels: Path, kind: str) -> None:
    for form in ("bolt @ {}", "{}#egg=bolt"):
        url = f"{kind}+https://127.0.0.1:1/bolt"
        with pytest.raises(EnvironmentBuildError, match=rf"{kind}\+https://127.*only those of Git"):
            build(venvs, form.format(url), allow_source_builds=True)
        assert unsupported_repository(form.format(url))


def test_a_repository_that_is_not_there(venvs: Path, wheels: Path, url: str) -> None:
    with pytest.raises(
        EnvironmentBuildError, match=r"bolt could not be built .*git could not fetch"
    ) as caught:
        build(venvs, f"bolt @ {url.replace('//', '//me:secret@')}x", allow_source_builds=True)
    assert "secret" not in str(caught.value)


def test_what_a_requirement_says() -> None:
    source = remote_source(
        "a.B[x] @ git+ssh://git@h:22/o/r.git@v1/x#subdirectory=d&egg=c ; python_version > '3'"
    )
    assert source is not None
    assert (source.name, source.url, source.revision) == ("a-b", "ssh://git@h:22/o/r.git", "v1/x")
    assert (source.subdirectory, source.is_named, source.file) == ("d", True, "a-b.git")
    source = remote_source("git+https://h/o/r.git")
    assert source is not None
    assert (source.name, source.revision, source.is_named) == ("r", "HEAD", False)
    assert remote_source("a @ https://h/a-1-py3-none-any.whl") is None
    assert remote_source("a>=1") is None
    for url in (
        "git+https://h/..",
        "git+https://h/",
        "git+https://h/a\\b.git#egg=../../c",
        "https://h/...zip",
    ):
        source = remote_source(url)
        assert source is not None
        assert is_plain(source.name)
        assert not source.is_named
