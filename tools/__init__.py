"""Maintainers' scripts: searches on training pictures, and updates of the committed notebooks and README."""
