"""What must hold before anything is scored: the pitfalls, and who looks for each."""
