"""Input and output: files, locks, the console, digests, and the errors that a user reads."""
