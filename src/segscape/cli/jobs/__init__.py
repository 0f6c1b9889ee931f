"""What commands do to photographs, scenes, videos and pairs of files."""
