"""Phantom whole-slide images for the default study: styles, layouts, stained tissue, and the files.

A phantom resembles H&E at 0.5 µm/px and is built like a stained section: first the concentrations of haematoxylin and
eosin, then the light that passes through them (Beer-Lambert law). What is tumour (the layout) and how a patient looks
(the style) come from separate random streams, so neither carries any information about the other.

Lengths are in µm unless a name says px; images are (height, width); points are x, y in level-0 pixels.
"""
