"""What is said over the antenna, whoever holds it."""
