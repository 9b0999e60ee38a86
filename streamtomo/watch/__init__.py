"""File to tilt: everything between the microscope's folder and one settled image with its metadata."""
