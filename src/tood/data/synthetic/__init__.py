"""The generated data set of textured shapes, which needs no download."""
