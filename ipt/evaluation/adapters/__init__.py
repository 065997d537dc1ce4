"""Our checkpoints as models of evaluation harnesses: lmms-eval and VLMEvalKit. Neither is imported unless it asks."""
