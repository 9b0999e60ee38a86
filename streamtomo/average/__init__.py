"""Particles of one kind become a structure: found, cut out, turned onto each other, averaged, told apart."""
