"""Several processes: which one writes, how weights are sharded, gathered and given back.

Without sharding each process holds the whole model (DDP, through accelerate). With it weights,
gradients and moments are split over the processes layer by layer (FSDP2: torch's
``fully_shard``, since accelerate offers no sharding on a CPU, where the tests run). A state is
written from gathered, whole tensors, so that it can be resumed on any number of processes.
"""

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from p2law.training import layers


def is_main() -> bool:
    """Whether this process is the one that writes and reports."""
    return int(os.environ.get("RANK", "0")) == 0


def shard(objective: nn.Module, model: nn.Module, device: torch.device) -> None:
    """Split a model's weights over all processes, one group a decoder layer and one for the rest.

    fp32 throughout; gradients are averaged over the processes, as DDP does.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in layers.of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(objective, mesh=mesh)


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shards, on every process; all processes must ask together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor placed, and split where it is split, like a weight of its shape."""
    if isinstance(tensor, DTensor):
        return tensor
    placed = tensor.to(weight.device)
    if isinstance(weight, DTensor):
        return distribute_tensor(placed, weight.device_mesh, weight.placements)
    return placed


def collected(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors by name. Split ones are gathered one by one into the main process's memory.

    So a device never holds more than one beyond its share; the other processes get none of them.
    Tensors that are not split are given back as they are. All processes must ask together.
    """
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if full is tensor:
            found[name] = tensor
        elif is_main():
            found[name] = full.cpu()
    return found


def gathered(model: nn.Module) -> nn.Module:
    """A plain model with a sharded one's weights, on the CPU: what a checkpoint is written from.

    ``model`` itself where nothing is sharded, and on processes that write nothing. All must ask
    together.
    """
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    full = collected(weights)
    if not any(isinstance(weight, DTensor) for weight in weights.values()) or not is_main():
        return model
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    plain.load_state_dict(full, strict=False)  # tied weights go by one of their names
    plain.tie_weights()
    return plain
