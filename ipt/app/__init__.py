"""The playground: a page on which a person moves through a scene, watches a model imagine it, and changes what it imagined."""
