"""Training: losses, the loop, and what prepares for it."""
