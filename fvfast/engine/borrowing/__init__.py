"""What a run takes from the user's program, and gives back as it was."""
