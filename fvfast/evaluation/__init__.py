"""Judges how good a picture is: its score, and whether other networks recognize it."""
