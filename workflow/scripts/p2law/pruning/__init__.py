"""Pruning: from a base checkpoint to a smaller or sparser one that Hugging Face loads.

One-shot weight pruning (masks and weight compensation as two independent choices), depth, and
width, streamed block by block. Torch-free: :mod:`names` (what a study may ask for),
:mod:`architectures` (where the parts of a model sit) and :mod:`shapes` (what a rate gives).
"""

RECIPE = 3
"""Raise when the numbers this room produces change: pruned checkpoints are then made anew."""
