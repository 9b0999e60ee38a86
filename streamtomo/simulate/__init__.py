"""A microscope that writes like the real ones; it imports nothing of the package."""
