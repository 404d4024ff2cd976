"""The study: one configuration, validated, expanded into models, variants, runs and points.

``schema`` says what a study file may hold, ``expand`` turns it into the specification and the
identity (key) of every stage, ``stale`` compares those with the manifests on disk. Nothing here
imports torch: the Snakefile imports this room each time it is parsed.
"""
