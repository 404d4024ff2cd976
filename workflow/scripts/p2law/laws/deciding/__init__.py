"""Deciding: what a fitted law says to buy, and to run next."""
