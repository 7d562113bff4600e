"""What the methods share: augmentation, pseudo-labels, mixup, losses. Knows no study and no files."""
