"""Corpus: text in, held-out split, tokenizer and memory-mapped tokens out.

Documents are split by content hash, near-duplicates of validation are dropped from training, and
everything is tokenised once; ``packed`` is how every later room reads the result.
"""

RECIPE = 1
"""Raised when the same spec and sources would give other tokens."""
