"""Starts that the configuration makes slow: a message says why."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pyisolate._host.zygote import Zygotes

Plugin = Callable[..., Any]

PLUGIN = """
import os
import sys
from pyisolate import ExtensionBase

class E(ExtensionBase):
    def variable(self, name):
        return os.environ.get(name)
"""


@pytest.fixture(autouse=True)
def own_zygotes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Zygotes of this test: no other test has started one with the same packages."""
    zygotes = Zygotes()
    monkeypatch.setattr("pyisolate._host.process.zygotes", zygotes)
    yield
    zygotes.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("PYTHONHASHSEED", "1"), ("PYTHONWARNINGS", "ignore"), ("MALLOC_ARENA_MAX", "2"), ("LC_ALL", "C.UTF-8")],
)
def test_variables_that_python_reads_at_start(plugin: Plugin, name: str, value: str, caplog: Any) -> None:
    first = plugin(PLUGIN, env={name: value})
    assert first.sync.variable(name) == value
    (told,) = caplog.messages
    assert f"its 'env' sets {name}, which Python or " in told
    assert "preload" in told
    second = plugin(PLUGIN, name="second", env={name: value})
    assert second.sync.variable(name) == value
    assert len(caplog.messages) == 1, "it starts from the same"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"])
def test_variables_that_libraries_read_at_start(plugin: Plugin, name: str, caplog: Any) -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    extension = plugin(PLUGIN, env={name: "1"}, share_torch=True)
    assert extension.sync.variable(name) == "1"
    (told,) = caplog.messages
    assert f"its 'env' sets {name}, which Python or torch" in told


def test_variables_of_libraries_that_are_not_shared(plugin: Plugin, caplog: Any, monkeypatch: Any) -> None:
    """No module has read the variables yet: the start is as fast."""
    monkeypatch.setattr("pyisolate._host.zygote.ForkPlan.bases", lambda plan: iter([()]))
    assert plugin(PLUGIN, env={"OMP_NUM_THREADS": "1"}).sync.variable("OMP_NUM_THREADS") == "1"
    assert not caplog.messages


def test_other_variables_are_not_told(plugin: Plugin, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    own = {"HF_TOKEN": "x", "PYTHONWARNINGS": os.environ["PYTHONWARNINGS"]}
    assert plugin(PLUGIN, env=own).sync.variable("HF_TOKEN") == "x"
    assert not caplog.messages


def test_an_interpreter_that_cannot_be_forked_is_told(plugin: Plugin, caplog: Any) -> None:
    extension = plugin(PLUGIN, env={"PYTHONHOME": sys.base_prefix})
    assert extension.sync.variable("PYTHONHOME") == sys.base_prefix
    (told,) = caplog.messages
    assert "starts by exec, which takes longer: PYTHONHOME is set" in told
