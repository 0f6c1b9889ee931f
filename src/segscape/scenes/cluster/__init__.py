"""Scenes segmented by the machines of a Ray cluster, which share a folder: small records travel, pixels never do."""
