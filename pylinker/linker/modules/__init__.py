"""Where libraries are, and what is in them."""
