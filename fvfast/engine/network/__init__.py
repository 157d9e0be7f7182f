"""What there is to know about a user's network: layers, shapes, types, channels."""
