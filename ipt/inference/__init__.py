"""Answering questions with a trained model: sessions, the engine that runs a dataset, and its predictions."""
