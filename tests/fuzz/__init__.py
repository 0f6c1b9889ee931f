"""Damaged inputs by the thousand, each given to the command that reads it: `make fuzz`."""
