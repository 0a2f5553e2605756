"""Annotations of slides, as labels at any resolution.

Each format has a module that says what a file holds: geometries with names (`NamedShape`). `read` brings them into one
form, polygons in the order they are painted (`PolygonAnnotation`); masks are images of labels (`MaskAnnotation`). A
pixel has the label that its centre has. Coordinates are level-0 pixels.
"""

from stedm.slides.annotations.annotation import Annotation, MaskAnnotation, PolygonAnnotation, Shape
from stedm.slides.annotations.read import read_annotation

__all__ = ["Annotation", "MaskAnnotation", "PolygonAnnotation", "Shape", "read_annotation"]
