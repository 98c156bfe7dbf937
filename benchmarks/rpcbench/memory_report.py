"""The report of the memory benchmark: tables, legend, plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from rpcbench.memory_cases import MB, Found, LargeRow, ScalingRow, mean_start
from rpcbench.report import grid

RULE = "=" * 80
LEGEND = """\
MB are 2^20 bytes. RAM is resident memory (RSS): a page that n processes share counts n times. PSS counts
such a page 1/n in each process, so it is what is used in all. USS is private memory. All are sums over the
host, the extensions and helper processes, less what the host used before; USS/Ext is the mean of the
extensions' processes alone. /Ext: divided by the number of extensions. Tensor, Distribution: what giving
one tensor to all of them has added. Shared: each side sees what the other one writes. Start: mean time
from load_extension to the first answer."""


def render(found: Found) -> str:
    """Return the printed summary."""
    baseline = found.baseline
    parts = [
        f"MEMORY BENCHMARK SUMMARY\n{RULE}",
        f"Baseline Memory Usage:\n  RAM: {_mb(baseline.rss)} MB\n  VRAM: {_mb(baseline.vram)} MB\n"
        f"  PSS: {_mb(baseline.pss)} MB\n  USS: {_mb(baseline.uss)} MB",
    ]
    parts += [f"{title} Results:\n{_scaling(rows)}" for title, rows in found.scaling.items() if rows]
    for device in ("cpu", "gpu"):
        if rows := [row for row in found.large if row.configuration.device == device]:
            parts += _large(rows)
    for heading, problems in (("Failed", found.failed), ("Skipped", found.skipped)):
        if problems:
            parts.append(f"{heading}:\n" + grid(["Test", "Reason"], problems, text_columns=2))
    return "\n\n".join([*parts, LEGEND])


def _scaling(rows: Sequence[ScalingRow]) -> str:
    headers = ["Extensions", "RAM/Ext (MB)", "Tensor RAM (MB)", "VRAM (MB)", "Shared"]
    headers += ["PSS (MB)", "PSS/Ext (MB)", "USS/Ext (MB)", "Tensor PSS (MB)", "Start (ms)"]
    cells = []
    for row in rows:
        count = row.extensions
        added = [_mb(row.tensor.rss), _mb(row.tensor.pss)] if row.tensor else ["-", "-"]
        line = [str(count), _mb(row.idle.rss / count), added[0], _mb(row.vram), row.shared]
        line += [_mb(row.idle.pss), _mb(row.idle.pss / count), _mb(statistics.fmean(row.private)), added[1]]
        cells.append([*line, f"{mean_start(row) * 1e3:.1f}"])
    return _left(headers, cells)


def _large(rows: Sequence[LargeRow]) -> list[str]:
    """Return the table of the large tensor and, if both configurations ran, the comparison."""
    size = rows[0].size
    name = f"{size / 2**30:g}GB" if size >= 2**30 else f"{size / MB:g}MB"
    where = " (GPU)" if rows[0].configuration.device == "gpu" else ""
    headers = ["Config", "Tensor Size (MB)", "Distribution RAM (MB)", "RAM/Extension (MB)"]
    headers += ["Distribution PSS (MB)", "PSS, all read (MB)", "VRAM (MB)", "Shared", "Extensions"]
    cells = []
    for row in rows:
        line = [f"share_torch={row.configuration.share_torch}", _mb(row.size), _mb(row.sent.rss)]
        line += [_mb(row.sent.rss / row.extensions), _mb(row.sent.pss), _mb(row.read.pss), _mb(row.sent.vram)]
        cells.append([*line, row.shared, str(row.extensions)])
    parts = [f"{name} TENSOR SHARING TEST{where}:\n" + _left(headers, cells)]
    by_mode = {row.configuration.share_torch: row for row in rows}
    if len(by_mode) == 2:
        standard, shared = by_mode[False], by_mode[True]
        if where:
            lines = [_saved("VRAM ", standard.sent.vram, shared.sent.vram)]
        else:
            lines = [_saved("", standard.sent.rss, shared.sent.rss)]
            lines.append(_saved("PSS ", standard.read.pss, shared.read.pss))
        parts.append(f"Memory Sharing Analysis{where}:\n" + "\n".join(lines))
    return parts


def _saved(kind: str, standard: int, shared: int) -> str:
    share = f" ({(standard - shared) / standard:.1%})" if standard > 0 else ""
    name = f"Memory saved with share_torch{f', {kind.strip()}' if kind else ''}"
    return f"  {name}: {_mb(standard - shared)} MB{share}"


def _left(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return grid(headers, rows, text_columns=len(headers))


def _mb(size: float) -> str:
    return f"{size / MB + 0.0:.1f}"


def plot(found: Found, file: Path) -> None:
    """Plot the memory above the baseline against the number of extensions; the suffix gives the format."""
    import matplotlib  # type: ignore[import-not-found]

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for title, rows in found.scaling.items():
        counts = [row.extensions for row in rows]
        label = title.lower().replace("cpu", "CPU").replace("gpu", "GPU")
        (line,) = axes.plot(counts, [row.idle.pss / MB for row in rows], "o-", label=f"{label}: PSS")
        resident = [row.idle.rss / MB for row in rows]
        axes.plot(counts, resident, "--", color=line.get_color(), label=f"{label}: RSS")
    axes.set_xlabel("extensions")
    axes.set_ylabel("memory over the baseline (MB)")
    axes.set_title("Memory of all processes by number of extensions")
    axes.grid(alpha=0.3)
    if found.scaling:
        axes.legend()
    figure.tight_layout()
    figure.savefig(file)
    pyplot.close(figure)
