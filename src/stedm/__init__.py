"""Style-extracting diffusion models for histopathology segmentation (Öttl et al., ECCV 2024, arXiv 2403.14429)."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: that takes as long as Python takes to start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("stedm")
