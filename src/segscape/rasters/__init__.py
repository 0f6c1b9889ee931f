"""Where pixels come from and go to."""
