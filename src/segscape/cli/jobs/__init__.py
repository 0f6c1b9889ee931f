"""The work of the commands on photographs, scenes, videos and pairs of files."""
