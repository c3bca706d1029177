"""What touches the operating system and people: files, locks, the console, and the errors a user reads."""
