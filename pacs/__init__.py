"""What is true about a door, a card and a rule: values, formats and decisions, without any I/O."""
