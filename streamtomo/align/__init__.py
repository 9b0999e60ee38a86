"""Corrected tilt to placed tilt."""
