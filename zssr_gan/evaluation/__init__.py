"""How good a result is: distances between images and between sets of images, each by a definition with a name."""
