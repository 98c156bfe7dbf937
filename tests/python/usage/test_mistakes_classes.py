"""Which class of a module is its extension, and the errors if that is not clear."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import host_side
import pytest

from pyisolate import Extension

Plugin = Callable[..., Extension]

LEAF = """
from host_side import Hooked

class E(Hooked):
    def f(self):
        return type(self).__name__
"""


@pytest.fixture(params=[True, False], ids=["isolated", "here"])
def isolated(request: pytest.FixtureRequest) -> bool:
    """The same rules hold in the host's process."""
    value: bool = request.param
    return value


@pytest.mark.parametrize("type_", [host_side.Hooked, host_side.PlainHooks, None])
def test_the_leaf_of_a_module_is_its_extension(plugin: Plugin, type_: Any, isolated: bool) -> None:
    source = """
    import pyisolate
    from host_side import Hooked, PlainHooks

    class Common({base}):
        def name_of_class(self):
            return type(self).__name__

    class E(Common):
        pass
    """
    base = type_.__name__ if type_ else "pyisolate.ExtensionBase"
    more = [type_] if type_ else []
    extension = plugin(source.format(base=base), *more, isolated=isolated)
    assert extension.sync.name_of_class() == "E"


def test_hooks_of_the_application_run_for_its_leaf(plugin: Plugin, isolated: bool) -> None:
    extension = plugin(LEAF, host_side.Hooked, isolated=isolated)
    assert extension.sync.f() == "E"
    assert extension.sync.hooks() == ["init", "before", "plugin"]


def test_what_a_hook_sets_is_kept_where_the_leaf_has_its_own_init(plugin: Plugin, isolated: bool) -> None:
    source = """
    from host_side import Setting

    class E(Setting):
        def __init__(self):
            super().__init__()
            self.changed = "by the leaf"

        def all(self):
            return [self.changed, self.set, self.replaced]
    """
    extension = plugin(source, host_side.Setting, isolated=isolated)
    assert extension.sync.all() == ["by the leaf", "by the hook", "by the hook"]


def test_an_imported_base_is_no_extension(plugin: Plugin, isolated: bool) -> None:
    """It may be imported under any name; the application's class is used if no class derives from it."""
    source = "from host_side import Hooked, PlainHooks as Other\nfrom pyisolate import ExtensionBase\n"
    assert plugin(source, host_side.Hooked, isolated=isolated).sync.hooks() == ["init", "before", "plugin"]
    extension = plugin(source, name="nothing", isolated=isolated)
    with pytest.raises(ImportError, match=r"has no extension: .* derives from pyisolate.ExtensionBase"):
        extension.ensure_process_started()


@pytest.mark.parametrize("base", ["Hooked", "ExtensionBase"])
def test_two_leafs_are_named(plugin: Plugin, base: str, isolated: bool) -> None:
    source = f"""
    from pyisolate import ExtensionBase
    from host_side import Hooked
    class First({base}): pass
    class Second({base}): pass
    """
    extension = plugin(source, *([host_side.Hooked] if base == "Hooked" else []), isolated=isolated)
    with pytest.raises(ImportError, match="more than one extension: First, Second") as caught:
        extension.ensure_process_started()
    assert "a folder of its own" in str(caught.value)


def test_a_class_of_another_kind_is_told(plugin: Plugin, isolated: bool, caplog: Any) -> None:
    source = """
    from pyisolate import ExtensionBase
    class E(ExtensionBase): pass
    """
    extension = plugin(source, host_side.Hooked, isolated=isolated)
    assert extension.sync.hooks() == ["init", "before", "plugin"]
    extension.stop()
    (told,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "defines E, which is not used, because it does not derive from host_side.Hooked" in told.message


def test_an_abstract_base_needs_a_leaf(plugin: Plugin, isolated: bool) -> None:
    source = """
    from host_side import Abstract
    class E(Abstract):
        def work(self):
            return "done"
    """
    assert plugin(source, host_side.Abstract, isolated=isolated).sync.work() == "done"
    with pytest.raises(ImportError, match=r"must define a class that derives from host_side.Abstract"):
        plugin("", host_side.Abstract, name="nothing", isolated=isolated).ensure_process_started()
