"""Judging: how far a fit may be trusted."""
