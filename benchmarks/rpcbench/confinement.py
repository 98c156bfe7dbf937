"""The option `--sandbox`: whether extensions are confined, and the check that they can be."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from pyisolate import ExtensionManager, SandboxError, SandboxMode
from rpcbench.service import BenchmarkExtension

MODULE = Path(__file__).parent.parent / "extensions/measured"
MODES = {"required": SandboxMode.REQUIRED, "disabled": SandboxMode.DISABLED}
SANDBOX: dict[str, list[str]] = {"devices": ["gpu"]}
"""GPU rows need the devices; without a GPU this adds nothing."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--sandbox`, which every benchmark has."""
    parser.add_argument(
        "--sandbox",
        choices=MODES,
        default="required",
        help="run the extensions confined, as they are by default, or open (default: %(default)s)",
    )


def heading(mode: str) -> str:
    """Return the line above the tables."""
    return f"Sandbox: {mode} (extensions are {'confined' if mode == 'required' else 'not confined'})"


def check(mode: str) -> None:
    """Exit with the reason if extensions cannot run in this mode. There is no fallback."""
    if obstacle := why_not(mode):
        print(
            f"{obstacle}\nHere, --sandbox disabled measures extensions that are not confined.",
            file=sys.stderr,
        )
        sys.exit(1)


def why_not(mode: str) -> str:
    """Return why extensions cannot be confined here; empty if they can or need not. Raises other errors."""
    if MODES[mode] is SandboxMode.DISABLED:
        return ""
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        # Not forked: a zygote would count as memory that was in use before the measurement.
        manager = ExtensionManager(BenchmarkExtension, {"venv_root_path": folder, "start_method": "exec"})
        extension = manager.load_extension(
            {"name": "confined", "module_path": str(MODULE), "sandbox": SANDBOX}
        )
        try:
            extension.ensure_process_started()
        except SandboxError as error:
            return str(error)
        finally:
            manager.stop_all_extensions()
    return ""
