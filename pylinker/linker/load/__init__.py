"""How a load is carried out, what names mean afterwards, and how libraries are unloaded."""
