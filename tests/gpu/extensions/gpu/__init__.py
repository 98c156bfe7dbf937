"""An extension that works on tensors of a GPU."""

import gc
import os

from pyisolate import ExtensionBase


class Gpu(ExtensionBase):
    def __init__(self):
        super().__init__()
        self.held = []

    def cuda_init(self):
        """The result of cuInit, or what kept it from being called."""
        import ctypes

        try:
            return str(ctypes.CDLL("libcuda.so.1").cuInit(0))
        except OSError as error:
            return str(error)

    def echo(self, value):
        return value

    def total(self, t):
        return float(t.detach().double().sum())

    def fill(self, t, value):
        t.detach().fill_(value)

    def fill_slowly(self, t, value):
        """Returns before the device has written the value."""
        import torch

        torch.cuda._sleep(200_000_000)
        t.fill_(value)

    def hold(self, *tensors):
        self.held.extend(tensors)

    def held_total(self):
        return float(sum(t.double().sum() for t in self.held))

    def release(self):
        import torch

        self.held.clear()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def make(self, count, value):
        import torch

        t = torch.full((count,), float(value), device="cuda")
        self.held.append(t)
        return t

    def again(self):
        """What was held last."""
        return self.held[-1]

    def make_slowly(self, count, value):
        """A tensor that the device has not written yet."""
        import torch

        t = torch.zeros(count, device="cuda")
        torch.cuda.synchronize()
        torch.cuda._sleep(200_000_000)
        t.fill_(value)
        return t

    def describe(self, t):
        import torch

        kind = "Parameter" if isinstance(t, torch.nn.Parameter) else "Tensor"
        return (
            kind,
            str(t.dtype),
            t.device.type,
            tuple(t.shape),
            t.stride(),
            t.requires_grad,
            t.is_conj(),
            t.is_neg(),
        )

    def same_storage(self, a, b):
        return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()

    def device_index(self, t):
        return t.device.index

    def backward(self, t):
        (t * 3).sum().backward()
        return t.grad

    def fill_memory(self):
        """Leave hardly any memory of the device free."""
        import torch

        torch.cuda.empty_cache()
        self.ballast = []
        for size in (1 << 30, 1 << 26, 1 << 22):
            while True:
                try:
                    self.ballast.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
                except torch.OutOfMemoryError:
                    break

    def free_memory(self):
        import torch

        self.ballast = []
        torch.cuda.empty_cache()

    def too_much(self):
        import torch

        return torch.empty(1 << 50, dtype=torch.uint8, device="cuda")

    def pid(self):
        return os.getpid()
