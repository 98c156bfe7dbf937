"""The build backend: meson-python's, with a different editable install.

An editable install of meson-python rebuilds the package at each import, with the tools of the environment
that built it. pip and uv remove that environment when they have finished, so the next import would fail; and
the processes of extensions would search for the package in a folder that does not exist. Here the extension
module is put beside the sources, and a ``.pth`` file names the checkout: the package is one folder, as in a
normal install. After a change of C code, install again.
"""

import base64
import csv
import hashlib
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from mesonpy import (
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

CHECKOUT = Path(__file__).resolve().parents[1]


def build_editable(
    wheel_directory: str,
    config_settings: "dict[str, Any] | None" = None,
    metadata_directory: "str | None" = None,
) -> str:
    """Make a wheel that points to the checkout, and return its file name."""
    settings = dict(config_settings or {})
    if not settings.keys() & {"build-dir", "builddir"}:
        settings["build-dir"] = f"build/editable-{sys.implementation.cache_tag}"
    with tempfile.TemporaryDirectory() as folder:
        name = build_wheel(folder, settings, metadata_directory)
        with zipfile.ZipFile(Path(folder, name)) as wheel:
            files = {entry: wheel.read(entry) for entry in wheel.namelist()}
    kept = {}
    for entry, content in files.items():
        if entry.endswith(".so"):
            replace(CHECKOUT / entry, content)
        elif ".dist-info/" in entry and not entry.endswith("/RECORD"):
            kept[entry] = content
    kept["pyisolate.pth"] = f"{CHECKOUT}\n".encode()
    write_wheel(Path(wheel_directory, name), kept)
    return name


def replace(path: Path, content: bytes) -> None:
    """Replace the file instead of writing to it: processes may have the old one mapped."""
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    new.write_bytes(content)
    new.chmod(0o755)
    new.replace(path)


def write_wheel(path: Path, files: "dict[str, bytes]") -> None:
    """Write these files and their RECORD."""
    record = f"{next(name for name in files if name.endswith('/METADATA')).partition('/')[0]}/RECORD"
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        writer.writerow([name, f"sha256={digest}", len(content)])
    writer.writerow([record, "", ""])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
        wheel.writestr(record, rows.getvalue())
