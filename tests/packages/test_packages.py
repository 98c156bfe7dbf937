"""Popular packages run in the sandbox: a real operation of each, in a confined extension.

A long run, with packages from PyPI: ``make test-packages``, or ``pytest tests/packages -k tables``. What a
group needs beyond the default stands in docs/guide.md.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyisolate import ExtensionBase, ExtensionManager

HERE = Path(__file__).parent
CUBES = [0, 1, 8, 27, 64]
SQUARES = [0, 1, 4, 9, 16]

# Group: dependencies, configuration beyond the default, operations with what they return.
GROUPS: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "system": (
        [],
        {},
        {
            **dict.fromkeys(
                ["system.fork_pool", "system.spawn_pool", "system.forkserver_pool", "system.default_pool"],
                SQUARES,
            ),
            "system.manager": {"a": 1},
            "system.queue": 5,
            "system.executor": SQUARES[:4],
            "system.shared_memory": 7,
            "system.unix_server": "there\n",
            "system.tls": True,
            "system.program": "42\n",
            "system.python": f"{sys.version_info[:2]}\n",
            "system.git": "first\n",
            "system.compiler": 42,
            "system.ffmpeg": 0,
            "system.find_library": "libc.so.6",
            "system.fifo": True,
            "tables.sqlite": 4950,
        },
    ),
    "science": (
        ["numpy", "scipy", "scikit-learn", "scikit-image", "pooch", "psutil"],
        {},
        {
            "numpy.solve": True,
            "scipy.minimise": 3.0,
            "scipy.workers": 2.0,
            "scipy.processes": True,
            "sklearn.forest": True,
            "sklearn.loky": CUBES,
            "sklearn.grid": True,
            "sklearn.edges": (512, 512),
            "sklearn.threads": True,
        },
    ),
    "tables": (
        ["numpy", "pandas", "polars", "pyarrow", "duckdb", "h5py"],
        {},
        {
            "tables.pandas_groups": {1: 3.0, 2: 3.0},
            "tables.polars_groups": {1: 3.0, 2: 3.0},
            "tables.parquet": 499500,
            "tables.duck": 4999950000,
            "tables.hdf": 4950,
        },
    ),
    "images": (
        ["numpy", "pillow", "opencv-python-headless", "av", "imageio", "matplotlib", "numba"],
        {},
        {
            "images.pillow": (40, 20),
            "images.opencv": 2,
            "images.video": 5,
            "images.gif": 3,
            "images.figure": True,
            "images.jit": 1000.0,
            "images.jit_kept": 2,
        },
    ),
    "models": (
        ["transformers", "diffusers", "onnx", "onnxruntime"],
        {"share_torch": True},
        {
            "models.torch_threads": True,
            "models.torch_sort": [1, 2, 3],
            "models.loader": 28,
            "models.pool": [3],
            "models.compiled": 20.0,
            "models.transformer": (1, 4, 32),
            "models.diffuser": (1, 3, 8, 8),
            "models.onnx": [2.0, 4.0],
        },
    ),
}

PROGRAMS = {"system.git": "git", "system.compiler": "cc", "system.ffmpeg": "ffmpeg", "models.compiled": "c++"}


@pytest.fixture(scope="module", params=GROUPS)
def group(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Any]]:
    dependencies, config, _ = GROUPS[request.param]
    if config.get("share_torch"):
        pytest.importorskip("torch")
    manager = ExtensionManager(ExtensionBase, {"venv_root_path": str(tmp_path_factory.mktemp("venvs"))})
    settings: dict[str, Any] = {"name": request.param, "module_path": str(HERE / "runner"), **config}
    if dependencies:
        settings["dependencies"] = dependencies
    yield request.param, manager.load_extension(settings)
    manager.stop_all_extensions()


CASES = [(group, operation) for group, (_, _, operations) in GROUPS.items() for operation in operations]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("group", "operation"), CASES, indirect=["group"], ids=[case[1] for case in CASES])
def test_it_runs(group: tuple[str, Any], operation: str) -> None:
    name, extension = group
    if (needed := PROGRAMS.get(operation)) and shutil.which(needed) is None:
        pytest.skip(f"there is no {needed} here")
    assert extension.with_timeout(300).sync.run(operation) == GROUPS[name][2][operation]
