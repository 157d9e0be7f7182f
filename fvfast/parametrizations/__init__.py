"""What is optimized, and how an image is made of it."""
