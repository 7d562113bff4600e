"""The training loop, its events, checkpoints and dense inference. Knows no method by name, no Qt, no napari."""
