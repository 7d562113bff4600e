"""What people said about which images, and where it is kept. Knows neither torch nor Qt nor napari."""
