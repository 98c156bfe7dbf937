"""src/gpu/cuda.h, which declares CUDA's driver, against NVIDIA's own header: names, types and constants."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import paths
import pytest

ROOT = paths.ROOT
FOLDERS = (
    Path("/usr/local/cuda/include"),
    Path("/usr/include"),
    # packages nvidia-cuda-runtime-cu12 and nvidia-cuda-runtime
    Path(sysconfig.get_path("purelib"), "nvidia/cuda_runtime/include"),
    *sorted(Path(sysconfig.get_path("purelib"), "nvidia").glob("cu[0-9]*/include")),
)
HEADERS = [folder / "cuda.h" for folder in FOLDERS if (folder / "cuda.h").exists()]


def version(header: Path) -> str:
    found = re.search(r"#define CUDA_VERSION (\d+)(\d\d)\d", header.read_text(errors="replace"))
    return f"{found[1]}.{int(found[2])}" if found else "unknown"


def build(header: Path, program: Path) -> subprocess.CompletedProcess[str]:
    command = ["cc", "-std=gnu11", "-Wall", "-Werror", "-Wcast-function-type"]
    # Only the table of cuda_driver.c is needed, not what it calls.
    command += ["-ffunction-sections", "-Wl,--gc-sections"]
    command += [f"-I{ROOT}/src", f"-I{ROOT}/include", "-isystem", str(header.parent)]
    command += [str(ROOT / "tests/c/cuda_header.c"), str(ROOT / "src/os/fork.c"), "-o", str(program)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")
@pytest.mark.parametrize("header", HEADERS or [None], ids=[version(header) for header in HEADERS] or ["none"])
def test_the_driver_is_called_as_its_header_says(header: Path | None, tmp_path: Path) -> None:
    if not header:
        pytest.skip("there is no cuda.h; pip install nvidia-cuda-runtime-cu12 brings one")
    built = build(header, tmp_path / "compare")
    assert built.returncode == 0, built.stderr
    compared = subprocess.run([tmp_path / "compare"], capture_output=True, text=True)
    assert compared.returncode == 0, compared.stderr


@pytest.mark.skipif(not shutil.which("cc") or not HEADERS, reason="there is no C compiler, or no cuda.h")
@pytest.mark.parametrize(
    ("wrong", "culprit"),
    [
        ("-DCUDA_ERROR_OUT_OF_MEMORY=3", "CUDA_ERROR_OUT_OF_MEMORY"),
        ("-DcuEventQuery=cuEventRecord", "cast"),
        ("-DcuStreamWaitEvent=cuStreamQuery", "cast"),
    ],
)
def test_what_differs_is_told(wrong: str, culprit: str, tmp_path: Path) -> None:
    (tmp_path / "cuda.h").write_text(f'#include "{HEADERS[0]}"\n#define {wrong[2:].replace("=", " ")}\n')
    built = build(tmp_path / "cuda.h", tmp_path / "compare")
    assert built.returncode != 0
    assert culprit in built.stderr


@pytest.mark.skipif(not shutil.which("cc") or not HEADERS, reason="there is no C compiler, or no cuda.h")
def test_another_version_of_a_function_is_told(tmp_path: Path) -> None:
    (tmp_path / "cuda.h").write_text(
        f'#include "{HEADERS[0]}"\n#undef cuEventDestroy\nCUresult cuEventDestroy(CUevent event);\n'
    )
    assert build(tmp_path / "cuda.h", tmp_path / "compare").returncode == 0
    compared = subprocess.run([tmp_path / "compare"], capture_output=True, text=True)
    assert compared.returncode == 1
    assert "cuEventDestroy" in compared.stderr
