"""Training: one loop for base models and post-training, its schedules, state and kept masks.

schedule   learning rates as pure functions of the step; which legs a run is made of
recipe     the settings that move a run's numbers, checked
loop       the training step: packed rows, token-sum losses, fused AdamW, clipping
losses     the token loss and its gradient in one pass; chunked head; distillation
masks      weights that pruning set to zero and that stay zero
layers     which layers train, are compiled, are recomputed
parallel   several processes: who writes, sharded weights gathered and given back
command    options and exit code that the training scripts share
launch     one script as several processes with one exit code
machine    what a process computes on, and with whom
state      resumable state: safetensors and JSON, written whole or not at all
saver      what happens between steps: progress, heartbeat, saving, stopping
lease      one writer a run, with a heartbeat that `status` reads
stop       signals and time limits: finish the step, save, ask for a retry (code 75)
points     finished results found again without training
run        a post-training run: trunk, branches, points
pretrain   a base model trained from random weights
"""

from collections.abc import Mapping
from typing import Any

from p2law.architectures.architecture import architecture_of

RECIPE = 2
"""Raised when the numbers of this room change; part of every key of the stages that train."""
CHUNKED = 32_768
"""Vocabulary from which on the head is computed in chunks, with no tensor of all logits."""


def chunked_head(config: Mapping[str, Any]) -> bool:
    """Whether a model of this config trains with a chunked head (unless it has a teacher)."""
    return config["vocab_size"] >= CHUNKED and architecture_of(config).chunked_head
