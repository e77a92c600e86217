"""Data sets: rendered people, the LIP reader, augmentation, targets and the tree checker. Knows no network."""
