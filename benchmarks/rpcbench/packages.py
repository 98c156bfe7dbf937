"""Rows for values of other packages, one way: data frames, text columns, an image.

Each is measured beside the work that it cannot do without, in this process, and beside peers: pickle, and
Arrow's own format, through `multiprocessing.Pipe`.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from rpcbench.fleet import Fleet
from rpcbench.harness import Operation, Sampler, timed, timed_sync

ITEMS, COLUMNS = 1_000_000, 10
SIDE = 4096
LEAST, PICKLE, ARROW = "least work", "pickle by Pipe", "Arrow IPC by Pipe"


async def obstacle(package: str, shared: bool, fleet: Fleet) -> str:
    """Return why a row cannot run; empty if it can."""
    if shared and not fleet.share_torch:
        return "memory is not shared in this configuration"
    return "" if importlib.util.find_spec(package) else f"{package} is not installed"


def _peer(connection: Connection, arrow: bool) -> None:
    """Receive values and answer each. Ends when the other side does."""
    try:
        while True:
            if arrow:
                import pyarrow

                with pyarrow.ipc.open_stream(connection.recv_bytes()) as reader:
                    reader.read_pandas()
            else:
                connection.recv()
            connection.send(True)
    except EOFError:
        pass


def _by_pipe(value: Any, arrow: bool) -> Sampler:
    """Return a sampler that sends a value through a pipe to a new process."""

    def send(connection: Connection) -> bool:
        if arrow:
            import pyarrow

            table = pyarrow.Table.from_pandas(value)
            sink = pyarrow.BufferOutputStream()
            with pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
            connection.send_bytes(sink.getvalue())
        else:
            connection.send(value)
        return bool(connection.recv())

    async def sample(runs: int) -> list[int]:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_peer, args=(there, arrow), daemon=True)
        process.start()
        there.close()
        with here:
            send(here)  # the process starts, and imports the package
            samples = await timed_sync(lambda: send(here), bool)(runs)
        process.join()
        return samples

    return sample


def _one_way(
    fleet: Fleet, value: Any, least: Callable[[], Any], size: int, *, arrow: bool = True
) -> Operation:
    extension, host = fleet.main, fleet.host
    series = {LEAST: timed_sync(least, lambda _: True), PICKLE: _by_pipe(value, False)}
    if arrow and importlib.util.find_spec("pyarrow"):
        series[ARROW] = _by_pipe(value, True)
    return Operation(
        sample=timed(lambda: extension.receive(value), bool),
        sample_local=timed(lambda: host.local_echo(value), lambda _: True),
        collect=extension.collect,
        series=series,
        size=size,
    )


def numbers(fleet: Fleet, *, shared: bool = False) -> Operation:
    """Return an operation that sends a frame of floats, which may be shared. The least is one copy."""
    import pandas

    import pyisolate

    shape = (COLUMNS, ITEMS)
    block = pyisolate.empty_array(shape, np.float64) if shared else np.empty(shape)
    block[:] = np.random.default_rng(0).random(shape)
    frame = pandas.DataFrame(block.T, columns=[f"c{i}" for i in range(COLUMNS)], copy=False)
    return _one_way(fleet, frame, partial(frame.copy, deep=True), block.nbytes)


def text(fleet: Fleet, *, dtype: str) -> Operation:
    """Return an operation that sends two columns of short texts. The least is two copies of their buffers."""
    import pandas

    items = [f"item {i % 9973}" for i in range(ITEMS)]
    frame = pandas.DataFrame({name: pandas.Series(items, dtype=dtype) for name in "ab"})
    size = 2 * (len("".join(items)) + 8 * (ITEMS + 1))
    source = np.ones(size, np.uint8)

    def copies() -> None:
        source.copy().copy()

    return _one_way(fleet, frame, copies, size)


def image(fleet: Fleet) -> Operation:
    """Return an operation that sends an image; the least work is `tobytes` and `frombytes`."""
    import PIL.Image

    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(pixels)

    def there_and_back() -> None:
        PIL.Image.frombytes("RGB", picture.size, picture.tobytes())

    return _one_way(fleet, picture, there_and_back, pixels.nbytes, arrow=False)


ROWS: tuple[tuple[str, str, bool, Callable[[Fleet], Operation]], ...] = (
    ("dataframe_oneway", "pandas", False, numbers),
    ("dataframe_in_shared_memory_oneway", "pandas", True, partial(numbers, shared=True)),
    ("dataframe_text_oneway", "pandas", False, partial(text, dtype="str")),
    ("dataframe_object_text_oneway", "pandas", False, partial(text, dtype="object")),
    ("pil_image_oneway", "PIL", False, image),
)
"""Names, packages, whether memory has to be shared, and what is measured."""
