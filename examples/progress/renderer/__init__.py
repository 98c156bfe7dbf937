"""Works for a while in a plain method, and says how far it is."""

from pyisolate import ExtensionBase, RemoteFunction


class Renderer(ExtensionBase):
    def render(self, lines: int, progress: RemoteFunction) -> int:
        for line in range(1, lines + 1):
            progress.sync(line / lines)  # in a coroutine: await progress(line / lines)
        return lines
