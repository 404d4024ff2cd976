"""Forms: laws as declarations."""
