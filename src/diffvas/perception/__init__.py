"""What the program finds out about a clip by itself, before any object is completed: its depth."""
