"""Cluster: what a job asks of a machine. Costs, resources, the profile, Slurm. Imports no torch."""
