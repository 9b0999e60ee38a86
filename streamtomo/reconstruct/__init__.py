"""Placed tilts to volume."""
