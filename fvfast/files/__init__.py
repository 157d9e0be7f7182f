"""Files of the user: read within bounds, whatever is in them, and written whole or not at all."""
