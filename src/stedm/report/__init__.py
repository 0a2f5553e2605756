"""The answer of a study on one page: as HTML that stands alone, and as text for a terminal."""
