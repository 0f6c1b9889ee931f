"""The main object of a photograph, cut out."""
