"""The figures of a study, one module each: from tables and stored images to a PNG and a PDF."""
