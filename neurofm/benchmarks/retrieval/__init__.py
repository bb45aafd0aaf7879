"""Which of a gallery was shown or heard: ranks, galleries, averaging, controls."""
