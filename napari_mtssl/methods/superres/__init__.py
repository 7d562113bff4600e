"""Label super-resolution: exact outlines from coarse blocks."""
