"""How good a picture is: what other networks make of it."""
