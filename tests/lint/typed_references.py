"""How programs annotate functions and references. `make lint` has mypy check it; nothing runs it.

A line that mypy must refuse says so: a comment that is not needed is an error.
"""

from collections.abc import Callable

import pyisolate
from pyisolate import Ref, RemoteFunction


class Model:
    def predict(self, x: int) -> int:
        return 2 * x


class Loader:
    def __call__(self, path: str) -> Model:
        return Model()


def share(model: Model) -> Ref[Model]:
    return Ref(model, methods=["predict"])


async def use(ref: Ref[Model] | None, progress: RemoteFunction) -> int:
    await progress.with_timeout(3)(0.5, message="half")
    progress.sync(1.0)
    if ref is None:
        return 0
    with ref:
        name: str = ref.type_name
        names: tuple[str, ...] = ref.methods
        print(name, names, ref.sync.predict(2))
        result: int = await ref.with_timeout(None).predict(1)
    return result


load: Callable[[str], Model] = pyisolate.function(Loader())


@pyisolate.register_type(by_ref=["predict"])
class Shared(Model):
    pass


pyisolate.register_type(Model, by_ref=True, subclasses=True)


def mistakes() -> None:
    load(3)  # type: ignore[arg-type]
    share(3)  # type: ignore[arg-type]
    pyisolate.function(3)  # type: ignore[arg-type]
    pyisolate.function(Loader())(3)  # type: ignore[arg-type]
    share(Model()).methods = [3]  # type: ignore[assignment]
    pyisolate.register_type(Model, by_ref=3)  # type: ignore[call-overload]
