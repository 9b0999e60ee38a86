"""Complete series to tomogram."""
