"""No file of the host gets into an environment because an index or a package names it."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sources import add_project, add_source, add_wheel, build, touching

from pyisolate import EnvironmentBuildError
from pyisolate._env.origins import AllowedOrigins, file_path

MakeWheel = Callable[[str], Path]


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(Silent, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A wheel of the host that is not meant for extensions."""
    folder = tmp_path / "of the host"
    folder.mkdir()
    add_wheel(folder, "secret", {"secret.py": "KEY = 1"})
    add_source(folder, "hidden")
    return folder / "secret-1.0-py3-none-any.whl"


def page(folder: Path, name: str, *links: str) -> None:
    """The page of an index about a package."""
    (folder / "simple" / name).mkdir(parents=True)
    text = "".join(f'<a href="{link}">{link.rsplit("/", 1)[1].split("#")[0]}</a>\n' for link in links)
    (folder / "simple" / name / "index.html").write_text(f"<html><body>{text}</body></html>")


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", url)


REFUSED = r"secret was to be taken from .*secret-1\.0-py3-none-any\.whl, .*'dependencies'"


def test_a_page_of_an_index_names_a_file(
    venvs: Path, wheels: Path, site: tuple[Path, str], private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page(site[0], "secret", private.as_uri())
    use(monkeypatch, f"{site[1]}/simple")
    with pytest.raises(EnvironmentBuildError, match=REFUSED):
        build(venvs, "secret")
    assert not list(venvs.glob("ext-*"))


def test_a_page_of_links_names_a_file(
    venvs: Path, wheels: Path, site: tuple[Path, str], private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site[0] / "links.html").write_text(f'<a href="{private.as_uri()}">{private.name}</a>')
    monkeypatch.setenv("PIP_FIND_LINKS", f"{site[1]}/links.html")
    with pytest.raises(EnvironmentBuildError, match=REFUSED):
        build(venvs, "secret")


def test_a_page_names_source_code_of_the_hosts(
    venvs: Path, wheels: Path, site: tuple[Path, str], private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page(site[0], "hidden", (private.parent / "hidden-1.0.tar.gz").as_uri())
    use(monkeypatch, f"{site[1]}/simple")
    with pytest.raises(EnvironmentBuildError, match=r"hidden was to be taken from .*hidden-1\.0\.tar\.gz"):
        build(venvs, "hidden", allow_source_builds=True)


@pytest.mark.parametrize("named", ["{uri}", "{folder}/project", "{folder}/hidden-1.0.tar.gz"])
@pytest.mark.parametrize("by", ["index", "url", "build"])
def test_what_a_package_depends_on(
    venvs: Path,
    wheels: Path,
    site: tuple[Path, str],
    private: Path,
    tmp_path: Path,
    trace: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
    named: str,
) -> None:
    """Also for a package that is given by its URL, whose dependencies of this kind uv accepts."""
    add_project(private.parent / "project", "secret", code=touching(trace))
    url = named.format(uri=private.as_uri(), folder=private.parent.as_uri())
    add_wheel(site[0], "bolt", {"bolt.py": ""}, f"secret @ {url}")
    add_source(
        site[0], "nail", f"secret @ {url}", requires=repr([f"secret @ {url}"]) if by == "none" else "[]"
    )
    requirement = {
        "index": "bolt",
        "url": f"bolt @ {site[1]}/bolt-1.0-py3-none-any.whl",
        "build": f"nail @ {site[1]}/nail-1.0.tar.gz",
    }[by]
    if by == "index":
        page(site[0], "bolt", "/bolt-1.0-py3-none-any.whl")
        use(monkeypatch, f"{site[1]}/simple")
    with pytest.raises(EnvironmentBuildError, match="secret"):
        build(venvs, requirement, allow_source_builds=True)
    assert not trace.exists()


def test_an_index_of_this_machine(
    venvs: Path, wheels: Path, private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index has its files beside it; links to other places are ignored."""
    mirror = tmp_path / "mirror"
    (mirror / "files").mkdir(parents=True)
    add_wheel(mirror / "files", "bolt", {"bolt.py": ""})
    page(mirror, "bolt", "../../files/bolt-1.0-py3-none-any.whl")
    page(mirror, "secret", private.as_uri())
    use(monkeypatch, f"{mirror.as_uri()}/simple")
    assert list(build(venvs, "bolt").glob("lib/python*/site-packages/bolt.py"))
    with pytest.raises(EnvironmentBuildError, match=REFUSED):
        build(venvs, "secret")


@pytest.mark.parametrize("form", ["{path}", "{uri}", "secret @ {uri}"])
def test_files_that_the_configuration_names(venvs: Path, wheels: Path, private: Path, form: str) -> None:
    path = build(venvs, form.format(path=private, uri=private.as_uri()))
    assert list(path.glob("lib/python*/site-packages/secret.py"))


@pytest.mark.parametrize("form", ["{url}", "nail @ {url}"])
def test_a_wheel_at_a_url(venvs: Path, wheels: Path, site: tuple[Path, str], form: str) -> None:
    add_wheel(site[0], "nail", {"nail.py": ""})
    path = build(venvs, form.format(url=f"{site[1]}/nail-1.0-py3-none-any.whl"))
    assert list(path.glob("lib/python*/site-packages/nail.py"))


def test_settings_of_uv_name_places(
    venvs: Path, wheels: Path, private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "uv.toml"
    settings.write_text(f'[pip]\nfind-links = ["{private.parent}"]\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(settings))
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert list(build(venvs, "secret").glob("lib/python*/site-packages/secret.py"))


def test_which_places_are_meant_for_packages(tmp_path: Path) -> None:
    for name in ("a b/x.whl", "a b/below/y.whl", "own/z.whl", "other/w.whl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "a b" / "link.whl").symlink_to(tmp_path / "other" / "w.whl")
    (tmp_path / "a b" / "up").symlink_to(tmp_path / "other")
    environ = {"UV_FIND_LINKS": (tmp_path / "a b").as_uri(), "UV_INDEX": "mine=https://a/simple"}
    places = AllowedOrigins(environ, [], [str(tmp_path / "own" / "z.whl")], tmp_path / "built")
    permitted = ["a b/x.whl", "a b/link.whl", "own/z.whl", "built/n.whl"]
    refused = ["a b/below/y.whl", "a b/up/w.whl", "other/w.whl", "a b/../other/w.whl", "own/other.whl"]
    found = [name for name in permitted + refused if places.permits("x", str(tmp_path / name))]
    assert found == permitted
    assert places.permits("x", "https://b/x.whl")
    for url in ("file:///x", "ftp://a/x.whl", "FILE:/etc/passwd", "", "x.whl", "git+https://a/b"):
        assert not places.permits("x", url)


def test_urls_of_files() -> None:
    assert file_path("file:///a%20b/c") == "/a b/c"
    assert file_path("FILE:/a/../b") == "/b"
    assert file_path("file://localhost/a") == "/a"
    assert file_path("https://a/b") is None
