"""streamtomo: cryo-electron tomography beside the microscope, while the tilt series runs."""

__version__ = "0.1.0"
