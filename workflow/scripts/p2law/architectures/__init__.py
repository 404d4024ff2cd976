"""Architectures: what a model is, from its config alone. Imports no torch.

declaration   what is told of one, in one object
decoders      llama, mistral, qwen2, qwen3, olmo2
mamba         mamba
architecture  those that are known, found by a config's model_type
counts        parameters
configs       configs of pruned models
model_config  configs that a study writes, checked
"""
