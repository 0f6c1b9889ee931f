"""Reading, resizing and writing of images, label maps, masks and videos."""
