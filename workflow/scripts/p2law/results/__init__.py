"""Results: what is there. Manifests, staleness, what was cleaned away, clean-up, status."""
