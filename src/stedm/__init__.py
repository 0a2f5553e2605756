"""Style-extracting diffusion models for histopathology segmentation (Öttl et al., ECCV 2024, arXiv 2403.14429)."""

from importlib.metadata import version

__version__ = version("stedm")
