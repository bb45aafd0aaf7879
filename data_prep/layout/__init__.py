"""What the sources of public datasets share: folders, names, trials on a clock, caps, ratings."""
