"""Data sets: images, readers of LIP and PASCAL, augmentation, targets, samples, check. Knows no network."""
