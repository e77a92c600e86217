"""MuLA: mutual learning to adapt for joint human parsing and pose estimation (ECCV 2018), as a library."""

__version__ = "0.1.0"
