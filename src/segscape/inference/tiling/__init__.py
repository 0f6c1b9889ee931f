"""A scene segmented tile by tile, each as an image of its own, and blended where tiles meet: approximate."""
