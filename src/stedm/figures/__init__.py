"""The figures of a study, one module each: tables and stored images in, a PNG and a PDF out."""
