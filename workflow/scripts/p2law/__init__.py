"""p2law: from base checkpoints to a plan for post-training pruned language models.

Rooms, in the order data flows: study, costs, corpus, checkpoints, pruning, training, evaluation,
tables, laws, figures. Imports run one way along that order; see README.md.
"""
