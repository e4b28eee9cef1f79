"""One training over several processes: which micro-batches are whose, how gradients meet, where the weights lie.

`Alone` is one process. `Ddp` keeps the whole model in every process (torch's DistributedDataParallel, Li et al. 2020,
arXiv 2006.15704); `Fsdp` keeps an equal part of every weight, gradient and moment in each, and gathers one layer at a time
(torch's fully_shard, after Zhao et al. 2023, arXiv 2304.11277, and ZeRO-3, Rajbhandari et al. 2020, arXiv 1910.02054).
Weights stay fp32 and bf16 is autocast, as in one process: a mixed precision policy of fully_shard would run the norms in
bf16 too, which is another arithmetic, and the number of processes may move rounding only.

The loop asks the same of all three. Gradients that were summed within a process come back as their mean over the processes;
the loop undoes that when it divides by the step's count of targets. Sharded tensors are DTensors: `local` is a process's
own part of one, `full` the whole, `part` what of a whole would be a process's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Literal, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from xstilts.engine.batch import Columns, by_length
from xstilts.errors import ModelError

Rows = NDArray[np.int64]
T = TypeVar("T")
# The first process tokenises while the others wait, and writes a state while they wait. A process that dies is noticed at
# once on the same host and where its connections close; this is for one that does neither.
PATIENCE = timedelta(minutes=60)


class Whole(nn.Module):
    """Encoder and heads as one module that runs what it is handed: DDP and FSDP2 do their work around a call of `forward`."""

    def __init__(self, encoder: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict(heads)

    def forward(self, compute: Callable[[], T]) -> T:
        """What `compute` gives; it uses the encoder and the heads."""
        return compute()


class Alone:
    """One process, which does everything."""

    rank = 0
    size = 1
    sharded = False  # each process holds a part of every weight

    def wait_for_turn(self) -> None:
        """Wait until this process may read weights and rows; `spread` lets the next one go on."""

    def spread(self, whole: Whole, layers: Sequence[nn.Module], device: str) -> nn.Module:
        """Put the model on the device, split as it will be; gives the module whose calls are trained through."""
        return whole.to(device)

    def quiet(self, trained: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch that is not the step's last: gradients need not meet yet."""
        return nullcontext()

    def sums(self, *values: float) -> tuple[float, ...]:
        """Each value summed over the processes."""
        return values

    def of_first(self, value: float) -> float:
        """The first process's value, for all."""
        return self.sums(value if self.rank == 0 else 0.0)[0]

    @property
    def keeps(self) -> bool:
        """Whether this process holds a copy of the best state: the first; all where each has its part."""
        return self.rank == 0 or self.sharded


class Ddp(Alone):
    """One of several processes that hold the whole model each. Made by `joined`."""

    def __init__(self, device: str) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self._local_rank, self._local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        # The first of a host tokenises, the others find its rows in the cache.
        self._turn, self._turns = min(self._local_rank, 1), min(self._local_size, 2)

    def wait_for_turn(self) -> None:
        for _ in range(self._turn):
            dist.barrier()

    def _pass_turn(self) -> None:
        for _ in range(self._turns - self._turn):
            dist.barrier()

    def spread(self, whole: Whole, layers: Sequence[nn.Module], device: str) -> nn.Module:
        self._pass_turn()
        # The heads of other tasks take no part in a step.
        return DistributedDataParallel(
            whole.to(device), find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    def quiet(self, trained: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last or not isinstance(trained, DistributedDataParallel) else trained.no_sync()

    def sums(self, *values: float) -> tuple[float, ...]:
        table = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(table)
        return tuple(table.tolist())


class Fsdp(Ddp):
    """One of several processes that hold a part of the model each. Made by `joined`."""

    sharded = True

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self._mesh: DeviceMesh = init_device_mesh(device, (self.size,))
        # One after the other, so that a host holds one whole model at a time.
        self._turn, self._turns = self._local_rank, self._local_size

    def spread(self, whole: Whole, layers: Sequence[nn.Module], device: str) -> nn.Module:
        if not layers:
            raise ModelError("this model has no list of layers that could be split one by one; use --parallel ddp")
        for layer in layers:
            fully_shard(layer, mesh=self._mesh)
        fully_shard(whole, mesh=self._mesh)
        self._pass_turn()
        return whole

    def quiet(self, trained: nn.Module, last: bool) -> AbstractContextManager[None]:
        return nullcontext()  # gradients that have not met yet would be as large as the whole model


@contextmanager
def joined(device: str, parallel: Literal["ddp", "fsdp"]) -> Iterator[Ddp]:
    """The processes that torchrun started, as a team: gloo on CPUs, NCCL on GPUs. Raises ModelError for a GPU that is not there."""
    if device == "cuda":
        place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= count:
            raise ModelError(f"--processes {os.environ['LOCAL_WORLD_SIZE']}: this machine has {count} CUDA devices")
        torch.cuda.set_device(place)
    own = torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else None
    dist.init_process_group("nccl" if own else "gloo", timeout=PATIENCE, device_id=own)
    yield Fsdp(device) if parallel == "fsdp" else Ddp(device)
    dist.destroy_process_group()


# ---- whose micro-batches ----


def dealt(made: Columns, examples: Rows, ways: int) -> list[Rows]:
    """`examples` split `ways` ways with about equal numbers of tokens: the largest first, each to who has least."""
    if ways == 1:
        return [examples]
    lengths = made.lengths
    tokens = np.fromiter((lengths[rows].sum() for rows in made.rows_of(examples)), np.int64, len(examples))
    load = np.zeros(ways, np.int64)
    hands: list[list[int]] = [[] for _ in range(ways)]
    for number in np.argsort(-tokens, kind="stable"):
        least = int(load.argmin())
        load[least] += tokens[number]
        hands[least].append(int(examples[number]))
    return [np.asarray(hand, np.int64) for hand in hands]


def passes(made: Columns, examples: Rows, budget: int, rank: int, size: int) -> list[tuple[Rows, bool]]:
    """The micro-batches of process `rank` in a step (see `by_length`), and whether each counts.

    Layers and gradients are gathered by all processes together, so that each goes through equally many micro-batches: who has
    fewer repeats one that does not count.
    """
    every = [list(by_length(made, hand, budget)) for hand in dealt(made, examples, size)]
    most = max(map(len, every))
    spare = (every[rank] or max(every, key=len))[-1]
    return [(rows, True) for rows in every[rank]] + [(spare, False)] * (most - len(every[rank]))


# ---- tensors that may be sharded ----


def local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor (the same memory, no gradient); a tensor that is not sharded as it is."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part(whole: Tensor, like: Tensor) -> Tensor:
    """What of `whole` is this process's own where it is sharded as `like` is, on `whole`'s device."""
    if not isinstance(like, DTensor):
        return whole
    chunks = whole.chunk(like.device_mesh.size())  # as fully_shard cuts: along the first dimension
    mine = like.device_mesh.get_local_rank()
    return chunks[mine].clone() if mine < len(chunks) else whole[:0].clone()


def sharded(own: Tensor, like: Tensor) -> Tensor:
    """The tensor, sharded as `like` is and on its device, of which `own` is this process's part."""
    own = own.to(like.device)
    if not isinstance(like, DTensor):
        return own
    return DTensor.from_local(own, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def full(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor: all processes have to ask. A tensor that is not sharded as it is."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def unshard(whole: nn.Module, keep: bool) -> None:
    """Put whole weights on the CPU in place of sharded ones where `keep`; all processes have to ask. It cannot be trained on."""
    for module in whole.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    known: dict[int, nn.Parameter] = {}  # a weight that two modules share stays one
    for module in whole.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                if id(weight) not in known:
                    values = full(weight)
                    known[id(weight)] = nn.Parameter(values.cpu() if keep else values[:0], weight.requires_grad)
                setattr(module, name, known[id(weight)])


def norm(gradients: Sequence[Tensor]) -> float:
    """The 2-norm of all gradients together."""
    own = float(nn.utils.get_total_norm([local(each) for each in gradients], foreach=True))
    if not isinstance(gradients[0], DTensor):
        return own
    squares = torch.tensor(own**2, dtype=torch.float64, device=gradients[0].device)
    dist.all_reduce(squares)
    return float(squares.sqrt())
