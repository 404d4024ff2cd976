"""Training: one loop for base models and post-training, its schedules, state and kept masks.

schedule   learning rates as pure functions of the step; which stretches a run is made of
loop       the training step: packed rows, token-sum losses, fused AdamW, clipping
losses     the token loss and its gradient in one pass
masks      weights that pruning set to zero and that stay zero
state      resumable state: safetensors and JSON, written whole or not at all
lease      one writer a run, with a heartbeat that `status` reads
stop       signals and time limits: finish the step, save, ask for a retry
run        a post-training run: trunk, branches, points
pretrain   a base model trained from random weights
"""

RECIPE = 1
"""Raised when the numbers of this room change; part of every key of the stages that train."""
