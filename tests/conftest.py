"""Property tests draw the same examples in every run and have no deadline."""

from hypothesis import settings

settings.register_profile("reproducible", derandomize=True, deadline=None, print_blob=False)
settings.load_profile("reproducible")
