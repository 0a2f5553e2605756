"""Style: which images it is read from, how an image is embedded, how a set of embeddings becomes one condition."""
