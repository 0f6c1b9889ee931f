"""How fast networks are here: timed alike, each in a process of its own."""
