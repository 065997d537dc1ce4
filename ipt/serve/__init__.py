"""A checkpoint behind an OpenAI-compatible endpoint, so that other programs use it as their imagination."""
