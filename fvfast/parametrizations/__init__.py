"""What is optimised, and how an image is made of it."""
