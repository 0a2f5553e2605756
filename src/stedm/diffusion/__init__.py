"""The generator: a diffusion model that takes content from a layout and style from images."""
