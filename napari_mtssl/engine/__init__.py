"""The training loop, its events, checkpoints and dense inference. Knows no method, Qt or napari."""
