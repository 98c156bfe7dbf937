"""Ended objects leave no references, as CPython checks with -R.

The numbers of references to types, memory blocks, tracked objects and descriptors stay constant. Each case
runs in its own process, and checks both sides of a session.
"""

from __future__ import annotations

import subprocess
import sys

import paths
import pytest

PROGRAM = """
import array, asyncio, contextlib, gc, os, sys, threading
from peers import ECHO, peer
import pyisolate
from pyisolate import _core

SOURCE = '''
class Model:
    def double(self, x):
        return 2 * x
    async def adouble(self, x):
        await asyncio.sleep(0)
        return 2 * x
    def fail(self, text):
        raise ValueError(text)
    async def forever(self):
        await asyncio.sleep(60)
''' + ECHO + '''
    import_gc = __import__("gc")
    async def wait(self):
        await asyncio.sleep(60)
    async def call(self, name, *args):
        return await host(name)(*args)
    def call_sync(self, name, *args):
        return host(name, sync=True)(*args)
    async def afail(self, text):
        await asyncio.sleep(0)
        raise ValueError(text)
    async def kept(self, value):
        self.task = asyncio.current_task()
        return value
    def take(self, value):
        self.value = value
        return type(value).__name__
    def back(self):
        return self.value
    async def ask(self, f, *args):
        return await f(*args)
    def ask_sync(self, f, *args):
        return f.sync(*args)
    async def ask_method(self, ref, name, *args):
        return await getattr(ref, name)(*args)
    def adder(self, n):
        return lambda x: x + n
    def raiser(self):
        def fail(text):
            raise ValueError(text)
        return fail
    def endless(self):
        return self.wait
    def make(self):
        from pyisolate import Ref
        return Ref(Model(), methods=["double", "adouble", "fail", "forever"])
    async def counts(self):
        await asyncio.sleep(0)
        gc = __import__("gc")
        for _ in range(3):
            gc.collect()
        types = [getattr(_core, name) for name in dir(_core) if isinstance(getattr(_core, name), type)]
        return [sys.getallocatedblocks(), len(gc.get_objects()), sum(sys.getrefcount(t) for t in types),
                len(os.listdir("/proc/self/fd"))]
'''

TYPES = [getattr(_core, name) for name in dir(_core) if isinstance(getattr(_core, name), type)]

class Host:
    def get(self, value):
        return value
    async def aget(self, value):
        await asyncio.sleep(0)
        return value
    def fail(self):
        raise KeyError("nothing")

def here():
    for _ in range(3):
        gc.collect()
    return [sys.getallocatedblocks(), len(gc.get_objects()), sum(sys.getrefcount(t) for t in TYPES),
            len(os.listdir("/proc/self/fd"))]

ATTEMPTS, WARM_UP, ROUNDS, REPEATS = 4, 300, 5, 20
NAMES = ["blocks", "objects", "references to types", "descriptors"]

async def plain(m):
    for value in (1, "text", [1, {2: 3.0}], b"x" * 10_000, (None, True)):
        assert await m("echo")(value) == value

async def coroutines(m):
    for value in (1, "text", b"x" * 10_000):
        assert await m("aecho")(value) == value
        assert await m("later")(value, 0) == value

async def failures(m):
    for name in ("fail", "afail", "nosuch", "_private"):
        with contextlib.suppress(ValueError, AttributeError):
            await m(name)("boom")
    with contextlib.suppress(TypeError):
        await m("echo")(object())
    with contextlib.suppress(TypeError):
        await m("echo")(1, 2, 3)

async def unawaited(m):
    m("echo")(1).close()
    call = m("echo")(2)
    assert not call.cancel() or call.done()
    with contextlib.suppress(asyncio.CancelledError):
        await call

async def cancelled(m):
    tasks = [asyncio.ensure_future(m("wait")()) for _ in range(5)]
    await m("later")(0, 0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await m("later")(0, 0)

async def late(m):
    with contextlib.suppress(TimeoutError):
        await m("wait", timeout=0.001)()
    await m("later")(0, 0)

async def gathered(m):
    for gather in (asyncio.gather, pyisolate.gather):
        assert await gather(*(m("later")(i, 0) for i in range(5))) == [0, 1, 2, 3, 4]
        await gather(*(m("fail")("boom") for i in range(3)), return_exceptions=True)
        with contextlib.suppress(ValueError):
            await gather(m("later")(1, 0), m("fail")("boom"), m("afail")("boom"))
        await m("later")(0, 0.001)

async def gathering_cancelled(m):
    for gather in (asyncio.gather, pyisolate.gather):
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await asyncio.wait_for(gather(m("wait")(), m("wait")()), 0.001)
    await m("later")(0, 0.001)

async def nested(m):
    assert await m("call")("get", 1) == 1
    assert await m("call")("aget", 1) == 1
    with contextlib.suppress(KeyError):
        await m("call")("fail")
    assert await m("call_sync")("get", 2) == 2

async def threads(m):
    def work():
        for _ in range(5):
            assert m("call", sync=True)("get", 1) == 1
            assert m("echo", sync=True)([1, 2]) == [1, 2]
            with contextlib.suppress(ValueError):
                m("fail", sync=True)("boom")
            with contextlib.suppress(TimeoutError):
                m("wait", sync=True, timeout=0.001)()
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.001)
    thread.join()
    await m("later")(0, 0)

async def arrays(m):
    try:
        import numpy
    except ImportError:
        return
    data = numpy.arange(10_000.0)
    for name in ("echo", "aecho", "kept"):
        assert (await m(name)(data) == data).all()
    await m("kept")(None)

async def methods(m):
    for _ in range(5):
        method = m("echo", timeout=5)
        assert await method(1) == 1
        assert method.name == "echo"

async def functions(m):
    def f(x):
        return x + 1
    for g in (f, len, contextlib.suppress().__exit__):
        assert await m("take")(g) == "RemoteFunction"
        assert await m("back")() == g
    assert await m("ask")(f, 1) == 2
    assert await m("ask_sync")(f, 1) == 2
    await m("take")(None)
    theirs = await m("adder")(1)
    assert await theirs(1) == 2
    assert await theirs.with_timeout(5)(1) == 2
    assert await m("take")(theirs) == "function"
    repr(theirs), theirs.__name__
    with theirs:
        pass
    with contextlib.suppress(ReferenceError):
        await theirs(1)
    await m("take")(None)

async def refs(m):
    host = Host()
    ref = pyisolate.Ref(host, methods=["get", "aget", "fail"])
    assert await m("take")(ref) == "Ref"
    assert await m("back")() is host
    assert await m("ask_method")(ref, "get", 1) == await m("ask_method")(ref, "aget", 1) == 1
    for name in ("fail", "other", "_private"):
        with contextlib.suppress(KeyError, AttributeError):
            await m("ask_method")(ref, name)
    await m("take")(None)
    with contextlib.suppress(ValueError):
        pyisolate.Ref(host, methods=["other"])
    theirs = await m("make")()
    assert await theirs.double(1) == await theirs.with_timeout(5).double(1) == 2
    assert await theirs.adouble(1) == 2
    method = theirs.with_timeout(5).double
    assert await method(2) == 4
    assert await m("take")(theirs) == "Model"
    for name in ("other", "_private"):
        with contextlib.suppress(AttributeError):
            getattr(theirs, name)
    theirs.release()
    with contextlib.suppress(ReferenceError, LookupError):
        await method(2)
    await m("take")(None)

async def functions_that_fail(m):
    theirs, ref = await m("raiser")(), await m("make")()
    for call in (theirs("boom"), theirs(1, 2, 3), ref.fail("boom"), ref.double(), ref.double(object())):
        with contextlib.suppress(ValueError, TypeError):
            await call
    with contextlib.suppress(TypeError):
        await m("take")([Host().get, pyisolate.Ref(Host()), theirs, object()])
    with contextlib.suppress(KeyError):
        await m("ask")(Host().fail)
    theirs(1).close()
    ref.double(1).close()
    with contextlib.suppress(ReferenceError):
        ref.release()
        ref.double(1)

async def functions_given_up(m):
    theirs, ref = await m("endless")(), await m("make")()
    for forever in (theirs, ref.forever):
        tasks = [asyncio.ensure_future(forever()) for _ in range(3)]
        await m("later")(0, 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for gather in (asyncio.gather, pyisolate.gather):
            with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                await asyncio.wait_for(gather(forever(), forever()), 0.001)
    with contextlib.suppress(TimeoutError):
        await theirs.with_timeout(0.001)()
    with contextlib.suppress(TimeoutError):
        await ref.with_timeout(0.001).forever()
    await m("later")(0, 0.001)

async def functions_gathered(m):
    theirs, ref = await m("adder")(1), await m("make")()
    for gather in (asyncio.gather, pyisolate.gather):
        assert await gather(*(theirs(n) for n in range(5))) == [1, 2, 3, 4, 5]
        assert await gather(*(ref.adouble(n) for n in range(5))) == [0, 2, 4, 6, 8]
        with contextlib.suppress(ValueError):
            await gather(theirs(1), ref.fail("boom"), ref.adouble(1))
    await m("later")(0, 0.001)

async def functions_in_threads(m):
    theirs, ref = await m("adder")(1), await m("make")()
    def work():
        for _ in range(5):
            assert theirs.sync(1) == 2
            assert ref.sync.double(1) == ref.with_timeout(5).sync.double(1) == 2
            assert m("ask_sync", sync=True)(len, "x") == 1
    await asyncio.to_thread(work)

async def cycles(m):
    class Window:
        def changed(self):
            return self
    window = Window()
    window.theirs = await m("make")()
    await m("take")([window.changed, window.theirs])
    window.theirs.release()
    await m("take")(None)

async def sessions(m):
    host, child = _core.Session.pair(_core.Registry())
    child.register(1, Host())
    served = asyncio.ensure_future(child.serve())
    assert await host.method(1, "aget")(1) == 1
    host.close()
    await served
    child.close()

class Money:
    def __init__(self, amount):
        self.amount = amount

def decode(value):
    if value == "bad":
        raise SystemExit(1)
    if value == "worse":
        raise KeyError(value)
    return Money(value)

async def converted(m):
    registry = _core.Registry()
    registry.register(Money, "money", encode=lambda money: money.amount, decode=decode)
    host, child = _core.Session.pair(registry, _core.Registry())
    child.register(1, Host())
    served = asyncio.ensure_future(child.serve())
    for value in (1, [1, 2], "text"):
        back = await host.method(1, "get")([Money(value), {"m": Money(value)}])  # an Opaque on the way
        assert back[1]["m"].amount == value
    for value in ("bad", "worse", object(), Money(object())):
        with contextlib.suppress(RuntimeError, KeyError, TypeError):
            await host.method(1, "get")([Money(1), Money(value)])
    host.close()
    await served
    child.close()

def main(case):
    work = globals()[case]
    with peer(SOURCE, Host()) as session:
        def m(name, **options):
            return session.method(1, name, **options)
        counts = session.method(1, "counts")
        async def run():
            for _ in range(REPEATS):
                await work(m)
            await asyncio.sleep(0.01)
        async def warm_up():  # of caches of the interpreter that fill slowly
            for _ in range(WARM_UP):
                await work(m)
        found = array.array("q", [0] * ROUNDS * 8)  # which takes no memory when it is filled
        async def measure():
            for index in range(ROUNDS):
                await run()
                found[8 * index : 8 * index + 8] = array.array("q", here() + await counts())
        def grown():
            asyncio.run(warm_up())
            asyncio.run(measure())
            for column in range(8):
                values = [found[8 * index + column] for index in range(ROUNDS)]
                if min(b - a for a, b in zip(values, values[1:])) >= REPEATS:  # one for each time at least
                    yield ("host", "extension")[column // 4], NAMES[column % 4], values
        for _ in range(ATTEMPTS):  # what fills slowly is full some time
            left = list(grown())
            if not left:
                break
        for each in left:
            print(*each)

main(sys.argv[1])
"""

CASES = [
    *("plain", "coroutines", "failures", "unawaited", "cancelled", "late", "gathered", "gathering_cancelled"),
    *("nested", "threads", "arrays", "methods", "sessions", "converted"),
    *("functions", "refs", "functions_that_fail", "functions_given_up", "functions_gathered"),
    *("functions_in_threads", "cycles"),
]


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left(case: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, case],
        cwd=paths.HELPERS,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert ended.stdout == "", "grows with each run"
