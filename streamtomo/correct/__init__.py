"""Raw image to corrected tilt: X-rays and hot pixels out, binned without aliasing."""
