"""People and programs are told."""
