"""The audit of generated samples: balance, give-aways, blind baselines, leaks, duplicates, recomputed answers."""
