"""What maintainers run: searches on training pictures, and the committed notebooks and README brought up to date."""
