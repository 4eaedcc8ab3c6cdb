"""What guests may import: the table of functions, numbers that they know, and what of WASIX there is."""
