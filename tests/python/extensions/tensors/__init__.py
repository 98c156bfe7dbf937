"""An extension that holds, changes, describes and makes tensors."""

import gc
import io
import os

import pyisolate
from pyisolate import ExtensionBase


class Tensors(ExtensionBase):
    def __init__(self):
        super().__init__()
        self.held = []

    def echo(self, value):
        return value

    def half(self, t):
        return t[: len(t) // 2]

    def describe(self, t):
        """Describe a tensor, as this side sees it, in plain values."""
        import torch

        kind = "Parameter" if isinstance(t, torch.nn.Parameter) else type(t).__name__
        return (
            kind,
            str(t.dtype),
            tuple(t.shape),
            t.stride(),
            t.requires_grad,
            t.is_leaf,
            t.is_conj(),
            t.is_neg(),
        )

    def total(self, t):
        return float(t.detach().double().sum())

    def fill(self, t, value):
        t.detach().fill_(value)

    def hold(self, value):
        self.held.append(value)

    def held_total(self):
        return float(sum(t.double().sum() for t in self.held))

    def fill_held(self, value):
        for t in self.held:
            t.fill_(value)

    def held_again(self, index):
        return self.held[index]

    def release(self):
        self.held.clear()
        gc.collect()

    def make(self, *shape, value=1.0):
        import torch

        return torch.full(shape, value)

    def make_and_hold(self, *shape):
        self.held.append(self.make(*shape))
        return self.held[-1]

    def same_storage(self, a, b):
        return a.untyped_storage()._cdata == b.untyped_storage()._cdata

    def backward(self, t):
        (t * 3).sum().backward()
        return t.grad

    def saved(self, t):
        import torch

        file = io.BytesIO()
        torch.save(t, file)
        file.seek(0)
        return float(torch.load(file).sum())

    def grow(self, count):
        """Return a tensor of this side that was shared and then resized."""
        import torch

        t = torch.ones(2)
        self.held.append(t)
        return t

    def shrunk(self):
        import torch

        t = torch.ones(100)
        t.untyped_storage().resize_(4)
        return t

    def zeros(self):
        import torch

        return torch._efficientzerotensor(3)

    def keep_memory(self, t, how):
        """Keep the memory of a received tensor by an object that is not a tensor, and return the tensor."""
        import numpy

        if how == "autograd":
            weight = self.make(len(t)).requires_grad_()
            self.kept = (weight, (t * weight).sum())
        else:
            self.kept = numpy.from_dlpack(t) if how == "dlpack" else t.numpy()
        return t

    def kept_total(self):
        """Return the content of that memory."""
        if isinstance(self.kept, tuple):
            weight, result = self.kept
            result.backward()
            return float(weight.grad.double().sum())
        return float(self.kept.astype("f8").sum())

    def mapped(self):
        """Return the number of segments that this process has mapped."""
        with open("/proc/self/maps") as maps:
            return sum("memfd:piso-segment" in line for line in maps)

    def make_empty(self, count):
        self.held.append(pyisolate.empty(count))
        return self.held[-1]

    def torch_file(self):
        import torch

        return torch.__file__

    def descriptors(self):
        return len(os.listdir("/proc/self/fd"))

    def inference(self, t):
        import torch

        with torch.inference_mode():
            return t * 2

    def pretend_gpu(self, memory):
        import pretended_gpu

        pretended_gpu.pretend(setattr, memory=memory)

    def pretend_sharing(self):
        import pretended_gpu

        pretended_gpu.pretend_sharing(setattr)

    def make_pretended(self, count, value):
        import pretended_gpu

        self.held.append(pretended_gpu.make(count, value))
        return self.held[-1]

    def mock_counts(self):
        import pretended_gpu

        mock = pretended_gpu.mock()
        names = (
            "opens",
            "closes",
            "waits",
            "events",
            "event_opens",
            "handles",
            "drains",
            "synchronisations",
            "forbidden",
        )
        return {name: getattr(mock, name) for name in names}

    def set_mock(self, name, value):
        import pretended_gpu

        setattr(pretended_gpu.mock(), name, value)

    def exit(self):
        os._exit(3)
