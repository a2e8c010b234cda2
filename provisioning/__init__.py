"""The bureau: site keys, cards and readers."""
