"""Reinforcement learning: what the model makes of a question, what that is worth, and how it is trained on it."""
