"""From slide files and annotations to patch files: open, tissue, annotations, patches, check, overview."""

from PIL import Image

from stedm.slides.open import OpenedSlide, UnreadableSlide, open_slide

__all__ = ["OpenedSlide", "UnreadableSlide", "open_slide"]

# Pillow takes images of 179 megapixels and more for an attack. Slides and masks are that large, and come from the
# user's own sheet. Set for good, as the check opens slides in several threads.
Image.MAX_IMAGE_PIXELS = None
