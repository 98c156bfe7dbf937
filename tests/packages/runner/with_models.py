import numpy as np


def torch_threads():
    import torch

    a = torch.rand(500, 500)
    return bool(torch.allclose(a @ a, (a.double() @ a.double()).float(), atol=1e-3))


def torch_sort():
    import torch

    return torch.sort(torch.tensor([3, 1, 2])).values.tolist()


class Numbers:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        import torch

        return torch.tensor([index])


def loader():
    import torch

    return sum(
        int(batch.sum()) for batch in torch.utils.data.DataLoader(Numbers(), batch_size=2, num_workers=2)
    )


def pool():
    import torch
    from torch import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as workers:
        return [len(t) for t in workers.map(torch.ones, [3])]


def compiled():
    import torch

    return torch.compile(lambda x: (x + 1).sum())(torch.ones(10)).item()


def transformer():
    import torch
    from transformers import BertConfig, BertModel

    model = BertModel(
        BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    )
    return tuple(model(torch.zeros(1, 4, dtype=torch.long)).last_hidden_state.shape)


def diffuser():
    import torch
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler()
    scheduler.set_timesteps(5)
    sample = torch.zeros(1, 3, 8, 8)
    return tuple(scheduler.step(sample, scheduler.timesteps[0], sample).prev_sample.shape)


def onnx():
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    node = helper.make_node("Add", ["x", "x"], ["y"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    graph = helper.make_graph([node], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.array([1, 2], np.float32)})[0].tolist()
