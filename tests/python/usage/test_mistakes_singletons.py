"""Singletons that the host or the extension lacks: the error says which side lacks what, and the remedy."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import host_side
import pytest

from pyisolate import Extension

notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes")
Plugin = Callable[..., Extension]
CALLER = """
    from pyisolate import ExtensionBase
    from {module} import {name}

    class Plugin(ExtensionBase):
        async def use(self):
            return await {name}().get()
"""


@pytest.fixture
def define(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Any]]:
    """define(module, source): a module of the host that extensions can import."""
    monkeypatch.syspath_prepend(str(tmp_path / "host"))
    (tmp_path / "host").mkdir()
    made = []

    def make(name: str, source: str) -> Any:
        head = "import os\nfrom pyisolate import ProxiedSingleton\n"
        (tmp_path / "host" / f"{name}.py").write_text(head + textwrap.dedent(source))
        made.append(name)
        monkeypatch.setenv("ONLY_IN_THE_HOST", "1")  # an extension does not see it
        return importlib.import_module(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (
            "if 'ONLY_IN_THE_HOST' not in os.environ: import is_not_there\n"
            "class Store(ProxiedSingleton): pass",
            "ModuleNotFoundError: No module named 'is_not_there'",
        ),
        (
            "if 'ONLY_IN_THE_HOST' in os.environ:\n    class Store(ProxiedSingleton): pass",
            "no attribute 'Store'",
        ),
    ],
)
def test_one_that_the_extension_cannot_import(
    plugin: Plugin, define: Callable[[str, str], Any], source: str, why: str
) -> None:
    stores = define("stores", source)
    extension = plugin(CALLER.format(module="stores", name="Store"), apis=[stores.Store])
    with pytest.raises(
        ImportError, match=rf"stores\.Store, which .* 'apis', could not be imported .*{why}.*'dependencies'"
    ):
        extension.sync.use()


def test_a_base_class_that_the_extension_cannot_import(
    plugin: Plugin, define: Callable[[str, str], Any]
) -> None:
    source = """
        from pyisolate import ExtensionBase
        if 'ONLY_IN_THE_HOST' in os.environ:
            class Base(ExtensionBase): pass
    """
    bases = define("bases", source)
    with pytest.raises(ImportError, match=r"bases\.Base, the extension type of the host's ExtensionManager"):
        plugin("", bases.Base).ensure_process_started()


@pytest.mark.parametrize("isolated", [True, False])
def test_one_that_the_host_cannot_make(
    plugin: Plugin, define: Callable[[str, str], Any], isolated: bool
) -> None:
    source = """
        class Store(ProxiedSingleton):
            def __init__(self, path): self.path = path
            def get(self): return self.path

        class Broken(ProxiedSingleton):
            def __init__(self): raise RuntimeError("no database")
    """
    stores = define("stores", source)
    text = CALLER.format(module="stores", name="Store")
    extension = plugin(text, apis=[stores.Store], isolated=isolated)
    with pytest.raises(TypeError, match=r"'plugin' needs the host's Store.*'apis'.*takes \(path\).*make it"):
        extension.sync.use()
    stores.Store("here")  # what the message advises
    assert extension.sync.use() == "here"
    broken = plugin(text, apis=[stores.Broken], isolated=isolated, name="other")
    with pytest.raises(RuntimeError, match="no database") as caught:
        broken.sync.use()
    if sys.version_info >= (3, 11):
        assert any("'other' needs the host's Broken: 'apis' lists it" in n for n in caught.value.__notes__)


@notes
def test_one_that_is_not_listed_and_awaited(plugin: Plugin, define: Callable[[str, str], Any]) -> None:
    define("stores", "class Store(ProxiedSingleton):\n    def get(self): return 1\n")
    with pytest.raises(TypeError, match="await") as caught:
        plugin(CALLER.format(module="stores", name="Store")).sync.use()
    assert any(
        "its own instances of stores.Store. " in note and "'apis'" in note for note in caught.value.__notes__
    )
    with pytest.raises(TypeError, match="await") as caught:  # listed: another mistake
        plugin(
            "from pyisolate import ExtensionBase\n"
            "class Plugin(ExtensionBase):\n    async def use(self): await 1\n",
            name="other",
            apis=[host_side.Counter],
        ).sync.use()
    assert not getattr(caught.value, "__notes__", [])
