"""What a prediction is worth, and how sure that is."""
