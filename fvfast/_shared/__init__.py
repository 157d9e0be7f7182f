"""What every other part uses: checks of arguments, messages, the version."""
