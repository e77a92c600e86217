"""The study of the paper: what is run, kept and shown."""
