"""The style conditioner: from style images, or their cached embeddings, to what the U-Net is given."""

from typing import Literal

from torch import Tensor, nn

from stedm import config
from stedm.style.aggregators import StyleAggregator
from stedm.style.encoder import StyleEncoder
from stedm.style.moments import MOMENTS

GREY_SIZE = 64
"""Side in pixels of the constant image that stands for no style in the paper."""


class StyleConditioner(nn.Module):
    """Style images → embeddings → style condition, in training and in the pipeline alike.

    Args:
        encoder: embeds images; None for a generator without style, and where a frozen encoder's embeddings are cached.
        aggregator: reduces a set of embeddings, and has the learned embedding of no style.
        null: what stands for no style: the `learned` embedding, or that of a grey image (the paper).
    """

    def __init__(
        self, encoder: StyleEncoder | None, aggregator: StyleAggregator, null: Literal["learned", "constant_image"]
    ):
        super().__init__()
        self.encoder, self.aggregator = encoder, aggregator
        self.null_is_learned = null == "learned" or encoder is None

    def embed(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] → (B, D) embeddings, the last 27 of which are the moments of each image."""
        assert self.encoder is not None
        return self.encoder(images)

    def null(self) -> Tensor:
        """(D,) embedding that stands for no style."""
        learned = self.aggregator.null
        return learned if self.null_is_learned else self.embed(learned.new_zeros(1, 3, GREY_SIZE, GREY_SIZE))[0]

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n, D) embeddings of style sets → tokens (B, T, dim) and pooled vector (B, dim)."""
        return self.aggregator(embeddings)


def build_conditioner(style: config.Style, embedding_dim: int | None = None) -> StyleConditioner:
    """A style conditioner with random weights, or with the published ones of its encoder.

    Args:
        style: the style of a generator.
        embedding_dim: D of the cached embeddings, for a frozen encoder.
    """
    encoder = None
    if style.sampler != "none" and style.encoder.trainable:
        asked = style.encoder
        encoder = StyleEncoder(asked.name, asked.dim, asked.pretrained, size=asked.size)
        embedding_dim = encoder.embedding_dim
    width = embedding_dim or MOMENTS
    aggregator = StyleAggregator(style.aggregator, width, style.images, style.encoder.dim, style.tokens)
    return StyleConditioner(encoder, aggregator, style.null)
