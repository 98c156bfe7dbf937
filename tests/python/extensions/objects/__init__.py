"""Gets and gives functions and objects by reference."""

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref

from pyisolate import ExtensionBase, Ref, _core

variable = contextvars.ContextVar("variable", default="unset")


class Model:
    """An object that stays in this process."""

    def __init__(self, factor):
        self.factor = factor
        self.thread = None

    def predict(self, x):
        self.thread = threading.get_ident()
        return self.factor * x

    async def later(self, x):
        await asyncio.sleep(0.001)
        return self.factor * x

    def ask(self, f, x):
        return f.sync(x)

    async def forever(self):
        try:
            await asyncio.Event().wait()
        finally:
            Objects.cancelled += 1

    def pid(self):
        return os.getpid()

    def watch(self, changed):
        self.changed = changed

    def notify(self, x):
        return self.changed.sync(x)

    def fail(self):
        raise LookupError("as it should")


class Objects(ExtensionBase):
    cancelled = 0

    def __init__(self):
        super().__init__()
        self.kept = {}
        self.models = weakref.WeakSet()

    def pid(self):
        return os.getpid()

    def exit(self):
        os._exit(3)

    # ---- what it holds ----

    def keep(self, name, value):
        self.kept[name] = value
        return type(value).__name__

    def give(self, name):
        return self.kept[name]

    def same(self, name, value):
        return self.kept[name] is value

    def drop(self, *names):
        for name in names or list(self.kept):
            del self.kept[name]

    def echo(self, value):
        return value

    async def settle(self):
        """Return what of its objects others hold, and what it holds of others, after a collection."""
        gc.collect()
        stats = _core.current_session().stats()
        return stats["leases_given"], stats["leases_held"]

    def was_cancelled(self):
        count, Objects.cancelled = Objects.cancelled, 0
        return count

    def alive(self):
        gc.collect()
        return len(self.models)

    # ---- what it gives ----

    def adder(self, n):
        return lambda x: x + n

    def async_adder(self, n):
        async def add(x):
            await asyncio.sleep(0)
            return x + n

        return add

    def endless(self):
        return self._forever

    async def _forever(self):
        try:
            await asyncio.Event().wait()
        finally:
            Objects.cancelled += 1

    def model(self, factor, *methods):
        model = Model(factor)
        self.models.add(model)
        return Ref(model, methods=methods)

    def kept_model(self, name):
        """Return the factor of a model that came home."""
        return self.kept[name].factor

    def factor_of(self, model):
        assert type(model) is Model
        return model.factor

    # ---- what it calls ----

    async def call(self, f, *args, **kwargs):
        return await f(*args, **kwargs)

    async def call_kept(self, name, *args):
        return await self.kept[name](*args)

    def call_sync(self, f, *args):
        return f.sync(*args)

    def call_sync_with_timeout(self, f, seconds, *args):
        return f.with_timeout(seconds).sync(*args)

    async def call_with_timeout(self, f, seconds, *args):
        return await f.with_timeout(seconds)(*args)

    async def call_in_thread(self, f, *args):
        return await asyncio.to_thread(f.sync, *args)

    async def call_then_cancel(self, f):
        task = asyncio.ensure_future(f())
        await asyncio.sleep(0.05)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"

    async def call_at_once(self, f, count):
        return await asyncio.gather(*(f(n) for n in range(count)))

    async def call_with_home(self, f, home, count):
        """Call with a function of the caller, of which this process lets go while most of the calls wait."""
        calls = [f(home) for _ in range(count)]
        del home
        gc.collect()
        return [await call for call in calls]

    async def method(self, ref, name, *args):
        return await getattr(ref, name)(*args)

    def method_sync(self, ref, name, *args):
        return getattr(ref.sync, name)(*args)

    def work(self, steps, progress):
        """Report progress from a plain method, which runs in the main thread."""
        assert threading.current_thread() is threading.main_thread()
        for step in range(1, steps + 1):
            progress.sync(step / steps)
        return "done"

    async def async_work(self, steps, progress):
        for step in range(1, steps + 1):
            await progress(step / steps)
        return "done"

    def thread_work(self, steps, progress):
        thread = threading.Thread(target=self.report, args=(steps, progress))
        thread.start()
        thread.join()
        return "done"

    def report(self, steps, progress):
        for step in range(1, steps + 1):
            progress.sync(step / steps)

    async def work_in_context(self, steps, progress):
        await asyncio.to_thread(self.report, steps, progress)
        return "done"

    def down(self, n, up):
        """Call the host, which calls this again, n deep."""
        return [threading.get_ident(), *(up.sync(n - 1, self.down) if n else [])]

    def ident(self):
        return threading.get_ident()

    def sleep(self, seconds):
        time.sleep(seconds)

    # ---- forks ----

    def fork(self, name):
        """Fork, drop in the child what was kept, and use it there; the status of the child."""
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                f = self.kept.pop(name)
                try:
                    f.sync(1)
                except Exception as error:
                    status = 0 if "fork" in str(error) else 2
                f.release()
                del f
                gc.collect()
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
