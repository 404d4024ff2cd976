"""Checkpoints: load, save, count and import the folders that a study's stages hand on.

A checkpoint is a folder that ``AutoModelForCausalLM.from_pretrained`` loads with no custom code;
the masks of a sparse variant lie beside it in ``masks.safetensors``.
"""

RECIPE = 1
"""Raised when the same spec would give other weights."""
