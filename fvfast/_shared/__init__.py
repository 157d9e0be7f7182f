"""What every room stands on: checks of arguments, words to people, the version."""
