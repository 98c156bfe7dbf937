"""Whether extensions run in their sandbox, as users have them, and what to do where they cannot."""

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
"""Rows of GPUs need them; without one there is nothing to add."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--sandbox`, for every benchmark."""
    parser.add_argument(
        "--sandbox",
        choices=MODES,
        default="required",
        help="run the extensions confined, as they are by default, or open (default: %(default)s)",
    )


def heading(mode: str) -> str:
    """What the tables say of it."""
    return f"Sandbox: {mode} (extensions are {'confined' if mode == 'required' else 'not confined'})"


def check(mode: str) -> None:
    """End the program, and say why, where extensions cannot be run in this mode: it never falls back."""
    if obstacle := why_not(mode):
        print(
            f"{obstacle}\nHere, --sandbox disabled measures extensions that are not confined.",
            file=sys.stderr,
        )
        sys.exit(1)


def why_not(mode: str) -> str:
    """Why extensions cannot be confined here; empty if they can, or need not be. Raises what else fails."""
    if MODES[mode] is SandboxMode.DISABLED:
        return ""
    with tempfile.TemporaryDirectory(prefix="pyisolate-bench-") as folder:
        # executed: a process that forks extensions would count as memory that was there before
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
