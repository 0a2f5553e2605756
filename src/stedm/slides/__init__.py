"""From slide files and annotations to patch files: open, tissue, annotations, patches, check, overview."""

from stedm.slides.open import OpenedSlide, UnreadableSlide, open_slide

__all__ = ["OpenedSlide", "UnreadableSlide", "open_slide"]
