"""Runs the user's network: finds its layers, taps them, and hands the network back as it was."""
