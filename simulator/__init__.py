"""The world around the house: cards, readers, doors and people that stand in for the real ones."""
