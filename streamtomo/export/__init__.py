"""Files that other packages read."""
