"""One run: its settings, what happens in each step, and the loop that takes them."""
