"""What programs for other packages do, as they would do it here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pyisolate import Extension, Ref

Plugin = Callable[..., Extension]


def test_callbacks_as_with_rpyc(plugin: Plugin) -> None:
    """A service gets a function of its client and calls it many times while it works, and afterwards."""
    service = plugin(
        """
        import asyncio, threading
        from pyisolate import ExtensionBase

        class FileMonitor(ExtensionBase):
            async def watch(self, names, on_change):
                self.on_change = on_change
                for number, name in enumerate(names):
                    await on_change(name, number=number)
                return len(names)

            def watch_plain(self, names, on_change):
                for number, name in enumerate(names):
                    on_change.sync(name, number=number)
                return len(names)

            async def touch(self, name):
                await self.on_change(name, number=-1)

            async def in_a_thread(self, name):
                await asyncio.to_thread(self.on_change.sync, name, number=-2)
        """
    )
    seen: list[tuple[str, int]] = []

    def on_change(name: str, number: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        seen.append((name, number))

    async def later(name: str, number: int) -> None:
        await asyncio.sleep(0)
        seen.append((name, number))

    names = [f"file{number}" for number in range(200)]
    expected = [(name, number) for number, name in enumerate(names)]

    async def main() -> None:
        for callback in (on_change, later):
            for watch in (service.watch, service.watch_plain):
                seen.clear()
                assert await watch(names, callback) == 200
                assert seen == expected
            seen.clear()
            await service.touch("after")
            await service.in_a_thread("thread")
            assert seen == [("after", -1), ("thread", -2)]

    asyncio.run(main())
    seen.clear()
    assert service.sync.watch_plain(names, on_change) == 200
    assert seen == expected


WORKER = """
import asyncio
from pyisolate import ExtensionBase, Ref

class Counter:
    def __init__(self):
        self.value = 0

    def add(self, n):
        self.value += n
        return self.value

class Worker(ExtensionBase):
    total = 0

    def make(self):
        return Ref(Counter(), methods=["add"])

    def add(self, n):
        self.total += n
        return self.total

    async def work(self, counter, n):
        for _ in range(n):
            await counter.add(1)

    async def work_with(self, add, n):
        await asyncio.gather(*(add(1) for _ in range(n)))

    async def pass_on(self, other_work, counter, n):
        await other_work(counter, n)
"""


def test_handles_of_actors_as_with_ray(plugin: Plugin) -> None:
    """A handle is passed on to tasks, which share the object, and from one actor to another."""
    owner, *workers = (plugin(WORKER, name=name) for name in ("owner", "one", "two"))

    async def main() -> None:
        counter = await owner.make()
        await asyncio.gather(*(worker.work(counter, 20) for worker in workers))
        assert await counter.add(0) == 40
        await workers[0].pass_on(workers[1].work, counter, 5)
        assert await counter.add(0) == 45
        await workers[0].work(counter, 1)  # the owner's own handle is still one
        assert await counter.add(0) == 46

    asyncio.run(main())


def test_methods_of_actors_as_with_ray(plugin: Plugin) -> None:
    owner, *workers = (plugin(WORKER, name=name) for name in ("owner", "one", "two"))

    async def main() -> None:
        await asyncio.gather(*(worker.work_with(owner.add, 50) for worker in workers))
        await workers[0].work_with(owner.sync.add, 50)
        assert await owner.add(0) == 150
        await workers[1].pass_on(workers[0].work_with, owner.add, 5)
        assert await owner.add(0) == 155

    asyncio.run(main())


def test_an_object_of_the_host_is_shared_by_tasks(plugin: Plugin) -> None:
    class Counter:
        value = 0

        def add(self, n: int) -> int:
            self.value += n
            return self.value

    counter = Counter()
    workers = [plugin(WORKER, name=name) for name in ("one", "two")]

    async def main() -> None:
        ref = Ref(counter, methods=["add"])
        await asyncio.gather(*(worker.work(ref, 20) for worker in workers))

    asyncio.run(main())
    assert counter.value == 40


def test_updates_of_a_task_as_with_appose(plugin: Plugin) -> None:
    """A task reports a message and how far it is while it runs, and can be cancelled."""
    service = plugin(
        """
        import asyncio
        from pyisolate import ExtensionBase

        class Service(ExtensionBase):
            state = "idle"

            async def run(self, steps, update):
                self.state = "running"
                try:
                    for step in range(steps):
                        await update(message=f"step {step}", current=step, maximum=steps)
                    self.state = "complete"
                    return {"result": steps}
                finally:
                    if self.state == "running":
                        self.state = "cancelled"

            def get_state(self):
                return self.state
        """
    )
    updates: list[tuple[str, int, int]] = []

    async def update(message: str, current: int, maximum: int) -> None:
        updates.append((message, current, maximum))

    async def main() -> None:
        assert await service.run(3, update) == {"result": 3}
        assert updates == [("step 0", 0, 3), ("step 1", 1, 3), ("step 2", 2, 3)]
        assert await service.get_state() == "complete"

        arrived = asyncio.Event()

        async def first(message: str, current: int, maximum: int) -> None:
            if current == 5:
                arrived.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(service.run(1_000_000, first))
        await arrived.wait()
        assert await service.get_state() == "running"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(1000):
            if await service.get_state() == "cancelled":
                break
            await asyncio.sleep(0.01)
        assert await service.get_state() == "cancelled"

    asyncio.run(main())


def test_functions_as_arguments_as_with_pyisolate_0_10(plugin: Plugin) -> None:
    """The extension awaits them, whether they are plain or async; they may be deep in the arguments."""
    extension = plugin(
        """
        from pyisolate import ExtensionBase

        class Node(ExtensionBase):
            async def execute(self, inputs, callback, **options):
                preview = options["hooks"]["preview"]
                for step in range(3):
                    await callback(step, 3)
                    await preview({"step": step, "data": bytes(100_000)})
                return await inputs["load"]("model") + await options["hooks"]["finish"]()
        """
    )
    progress: list[Any] = []

    def load(name: str) -> list[str]:
        return [name]

    async def finish() -> list[str]:
        return ["done"]

    class Server:
        def preview(self, image: dict[str, Any]) -> None:
            progress.append((image["step"], len(image["data"])))

    async def main() -> None:
        result = await extension.execute(
            {"load": load},
            lambda step, total: progress.append((step, total)),
            hooks={"preview": Server().preview, "finish": finish},
        )
        assert result == ["model", "done"]
        assert progress == [(0, 3), (0, 100_000), (1, 3), (1, 100_000), (2, 3), (2, 100_000)]

    asyncio.run(main())
