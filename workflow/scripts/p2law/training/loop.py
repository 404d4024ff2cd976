"""The training loop: packed rows in a fixed order, summed token losses, fused AdamW.

Everything a step does is a function of (weights, moments, step): batch k is rows
``order(rows, seed)[kB:(k+1)B]``, the learning rate is a function of k, and what randomness a
model has (dropout) is seeded by (seed, k). So the step is the whole position of a run, and a run
cut at any step and resumed from its state gives the same bits.

The summed token losses are divided by the batch's tokens once, on the gradients: neither the
number of micro-batches nor the number of processes enters the result. Weights and moments are
fp32; bf16 is a matter of the compute (autocast).
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from p2law.architectures.architecture import Architecture, architecture_of
from p2law.checkpoints import products
from p2law.corpus.packed import order
from p2law.errors import UserError
from p2law.training import layers, parallel
from p2law.training.losses import Objective
from p2law.training.masks import Masks
from p2law.training.recipe import Recipe

LAST_LOSSES = 32
"""How many of the last steps' losses a state and a manifest carry."""
MOMENTS = ("exp_avg", "exp_avg_sq")


class Corpus(Protocol):
    """What the loop needs of packed tokens (p2law.corpus.packed.Packed)."""

    sequence_length: int

    def rows(self, split: str) -> int: ...
    def read(self, split: str, indices: np.ndarray) -> np.ndarray: ...


class DivergedError(UserError):
    """A loss or gradient that is not finite; raised before it reaches the weights."""


@dataclass(frozen=True)
class Means:
    """How a run is computed, which is no part of what it is.

    device     'cpu' or 'cuda'
    shard      split weights and moments over the processes; otherwise each holds the whole model
    compile    torch.compile every decoder layer: 12-35 % faster steps after a minute of compiling
    recompute  keep no activations inside layers: less memory for a third more compute
    micro_rows rows of one forward and backward pass; None takes the recipe's, else the whole share
    """

    device: str = "cpu"
    shard: bool = False
    compile: bool = False
    recompute: bool = False
    micro_rows: int | None = None


class Loop:
    """A model in training: its optimizer, its place in the corpus and the step it has reached.

    ``steps`` is the number of steps that the run may take; :class:`UserError` is raised at once
    where the corpus is too small for them. ``teacher`` is the unpruned model where the recipe
    distils. ``losses`` holds the last steps' mean losses (nats per token), ``trained`` and
    ``seconds`` this process's steps and the time they took.
    """

    def __init__(
        self,
        model: nn.Module,
        corpus: Corpus,
        recipe: Recipe,
        *,
        seed: int,
        steps: int,
        masks: Mapping[str, Tensor] | None = None,
        teacher: nn.Module | None = None,
        means: Means = Means(),  # noqa: B008 - frozen
    ) -> None:
        T = corpus.sequence_length
        if recipe.batch_tokens % T:
            raise UserError(
                f"train.batch_tokens: {recipe.batch_tokens}; allowed are multiples of the"
                f" sequence length ({T})"
            )
        self.batch_rows = recipe.batch_tokens // T
        available = corpus.rows("train")
        if steps * self.batch_rows > available:
            raise UserError(
                f"tokens: {steps * recipe.batch_tokens} asked, the corpus has {available * T}"
                " training tokens in whole rows; no token may repeat: ask for fewer or enlarge it"
            )
        self.corpus, self.recipe, self.seed, self.means = corpus, recipe, seed, means
        self.micro_rows = means.micro_rows or recipe.micro_rows
        self.order = order(available, seed)
        self.accelerator = Accelerator(cpu=means.device == "cpu", mixed_precision="no")
        self.device = self.accelerator.device
        self.model = model.to(self.device, torch.float32).train()
        if self.batch_rows % self.accelerator.num_processes:
            raise UserError(
                f"train.batch_tokens: {self.batch_rows} rows of {T} do not divide among"
                f" {self.accelerator.num_processes} processes"
            )
        layers.freeze(self.model, recipe.layers)
        layers.prepare(self.model, compiled=means.compile, recomputed=means.recompute)
        if not means.compile:  # a compiled layer's products are the compiler's
            products.by_onednn(self.model)
        if teacher is not None:
            teacher = products.by_onednn(teacher.to(self.device).eval())
        self.objective = Objective(self.model, teacher, recipe.distil)
        if means.shard and self.accelerator.num_processes > 1:
            parallel.shard(self.objective, self.model, self.device)
        else:
            self.objective = self.accelerator.prepare_model(self.objective)
        named = self.model.named_parameters()
        self.weights = {name: weight for name, weight in named if weight.requires_grad}
        self.optimizer = _adamw(self.weights, recipe, architecture_of(model.config.to_dict()))
        self.masks = Masks(self.model, masks or {})
        self.masks.mask_weights()
        self.step = 0
        self.trained = 0
        self.seconds = 0.0
        self.losses: deque[float] = deque(maxlen=LAST_LOSSES)

    def computes_on(self) -> str:
        """Device, precision and company, for people: said before the first step."""
        device = str(self.device)
        if self.device.type == "cuda":
            device += f" ({torch.cuda.get_device_name(self.device)})"
        precision = {"fp32": "fp32", "bf16": "bf16 over fp32 weights"}[self.recipe.precision]
        company = f"processes: {self.accelerator.num_processes}, threads: {torch.get_num_threads()}"
        asked = [name for name in ("shard", "compile", "recompute") if getattr(self.means, name)]
        return ", ".join([f"computes on {device} in {precision}; {company}", *asked])

    def rows(self, step: int) -> list[Tensor]:
        """This process's share of a step's rows, as micro-batches int64 [n, T + 1]."""
        share = self.batch_rows // self.accelerator.num_processes
        first = step * self.batch_rows + self.accelerator.process_index * share
        mine = self.order[first : first + share]
        rows = torch.from_numpy(self.corpus.read("train", mine)).to(self.device)
        return list(rows.split(self.micro_rows or len(mine)))

    def advance(
        self, until: int, rate: Callable[[int], float], after: Callable[["Loop"], None]
    ) -> None:
        """Train to step ``until`` at the rates ``rate(step)``; call ``after`` between steps.

        ``after`` may save the state, report progress, or raise to stop. Raises
        :class:`DivergedError`, before the update, where a loss or gradient is not finite.
        """
        while self.step < until:
            started = time.perf_counter()
            self.losses.append(self._train_step(rate(self.step)))
            self.step += 1
            self.trained += 1
            self.seconds += time.perf_counter() - started
            after(self)

    def _train_step(self, learning_rate: float) -> float:
        """One step; returns the mean loss of its tokens before the update (nats)."""
        torch.manual_seed(hash((self.seed, self.step, self.accelerator.process_index)))
        micro = self.rows(self.step)
        total = torch.zeros((), device=self.device, dtype=torch.float64)
        for index, rows in enumerate(micro):
            with self._sync(last=index == len(micro) - 1), self._autocast():
                loss = self.objective(rows)
            loss.backward()
            total += loss.detach()
        return self._update(total, learning_rate)

    def _update(self, total: Tensor, learning_rate: float) -> float:
        """Scale, mask and clip the gradients, refuse what is not finite, and take the step."""
        processes = self.accelerator.num_processes
        mean = self.accelerator.reduce(total).item() / self.recipe.batch_tokens
        self.masks.mask_gradients()
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        # Gradients are sums over the tokens, averaged by DDP over the processes.
        scale = processes / self.recipe.batch_tokens
        norm = parallel.whole(torch.nn.utils.get_total_norm(gradients)).item() * scale
        if not (math.isfinite(mean) and math.isfinite(norm)):
            raise DivergedError(
                f"step {self.step}: loss {mean}, gradient norm {norm}; the update was not made and"
                " the last saved state stays; lower train.learning_rate or look at the corpus"
            )
        if self.recipe.clip:
            scale *= min(1.0, self.recipe.clip / (norm + 1e-6))
        torch._foreach_mul_(gradients, scale)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.masks.mask_weights()
        return mean

    def _sync(self, *, last: bool) -> Any:
        """Exchange gradients with the other processes on a batch's last micro-batch only."""
        if last or self.accelerator.num_processes == 1:
            return nullcontext()
        return self.accelerator.no_sync(self.objective)

    def _autocast(self) -> torch.autocast:
        """bf16 compute where the recipe asks for it."""
        enabled = self.recipe.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def agree(self, code: int) -> int:
        """The largest of the processes' codes, so that all do the same after the same step."""
        if self.accelerator.num_processes == 1:
            return code
        codes = self.accelerator.gather(torch.tensor([code], device=self.device))
        return int(codes.max())

    def tensors(self) -> dict[str, Tensor]:
        """Weights and moments by name, whole; the masks are checked first.

        They are the loop's own tensors unless they are sharded: then they are copies, and only the
        main process has them. All processes must ask together.
        """
        self.masks.check(self.optimizer)
        named = {f"weight/{name}": weight.detach() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            for moment in MOMENTS:
                named[f"{moment}/{name}"] = self.optimizer.state[weight][moment]
        return parallel.collected(named)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], step: int, losses: list[float]) -> None:
        """Take up the weights and moments that :meth:`tensors` gave after ``step`` steps.

        Weights alone are a start: their moments are zero.
        """
        for name, weight in self.weights.items():
            weight.copy_(parallel.like(tensors[f"weight/{name}"], weight))
            held = self.optimizer.state[weight]
            held["step"].fill_(float(step))
            for moment in MOMENTS:
                saved = tensors.get(f"{moment}/{name}")
                if saved is None:
                    held[moment].zero_()
                else:
                    held[moment].copy_(parallel.like(saved, weight))
        self.step = step
        self.losses = deque(losses, maxlen=LAST_LOSSES)


def _adamw(
    weights: Mapping[str, nn.Parameter], recipe: Recipe, architecture: Architecture
) -> torch.optim.AdamW:
    """Fused AdamW that decays matrices, but for those that the architecture exempts.

    Its moments are there from the start: made in the first step, as torch does, they would lie in
    the middle of the memory that a batch's activations leave, and the next batch would need new.
    """
    decayed: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for name, weight in weights.items():
        (decayed if architecture.decays(name, weight.ndim) else others).append(weight)
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=recipe.learning_rate,
        betas=recipe.betas,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    for weight in weights.values():
        moments = {moment: torch.zeros_like(weight, requires_grad=False) for moment in MOMENTS}
        optimizer.state[weight] = {"step": torch.zeros((), device=weight.device), **moments}
    return optimizer
