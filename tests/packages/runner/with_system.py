import asyncio
import concurrent.futures
import ctypes.util
import multiprocessing
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path


def square(x):
    return x * x


def in_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(square, range(5))


def fork_pool():
    return in_pool("fork")


def spawn_pool():
    return in_pool("spawn")


def forkserver_pool():
    return in_pool("forkserver")


def default_pool():
    return in_pool(None)


def manager():
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        process = multiprocessing.get_context("fork").Process(target=shared.update, args=({"a": 1},))
        process.start()
        process.join()
        return dict(shared)


def queue():
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    process = context.Process(target=numbers.put, args=(5,))
    process.start()
    found = numbers.get(timeout=60)
    process.join()
    return found


def executor():
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        return list(pool.map(square, range(4)))


def shared_memory():
    from multiprocessing import shared_memory as memory

    block = memory.SharedMemory(create=True, size=100)
    block.buf[0] = 7
    other = memory.SharedMemory(block.name)
    found = other.buf[0]
    other.close()
    block.close()
    block.unlink()
    return found


def unix_server():
    async def main():
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "socket"))

            async def answer(reader, writer):
                writer.write(await reader.readline())
                await writer.drain()
                writer.close()

            async with await asyncio.start_unix_server(answer, path):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(b"there\n")
                return (await reader.readline()).decode()

    with concurrent.futures.ThreadPoolExecutor(1) as thread:  # the extension's own loop runs in this one
        return thread.submit(lambda: asyncio.run(main())).result()


def tls():
    """A handshake in memory, with the system's authorities loaded."""
    return len(ssl.create_default_context().get_ca_certs()) >= 0


def program():
    return subprocess.run(
        ["sh", "-c", "echo $((20 + 22))"], capture_output=True, text=True, check=True
    ).stdout


def python():
    code = "import sys; print(sys.version_info[:2])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def git():
    with tempfile.TemporaryDirectory() as folder:
        run = ["git", "-C", folder, "-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", "init", "-q", folder], check=True)
        Path(folder, "file").write_text("x")
        subprocess.run([*run, "add", "."], check=True)
        subprocess.run([*run, "commit", "-qm", "first"], check=True)
        return subprocess.run([*run, "log", "--format=%s"], capture_output=True, text=True, check=True).stdout


def compiler():
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "a.c")
        source.write_text("int f(int x) { return x + 1; }")
        library = str(Path(folder, "a.so"))
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(source)], check=True)
        return ctypes.CDLL(library).f(41)


def ffmpeg():
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1", "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True).returncode


def find_library():
    return ctypes.util.find_library("c")


def fifo():
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.mkfifo(Path(folder, "pipe"))
        return Path(folder, "pipe").is_fifo()
