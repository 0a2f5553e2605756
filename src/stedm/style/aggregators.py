"""Aggregators: a set of style embeddings becomes the style condition."""

from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class StyleAggregator(ModelMixin, ConfigMixin):
    """Set of embeddings → tokens for cross-attention and one pooled vector.

    `mean`, `max` and `set_transformer` do not depend on the order of the set; `linear`, a linear layer on the set's
    embeddings one after the other (the paper), does. All take sets of any size; `linear` repeats or cuts a set to the
    size it was trained with.

    Args:
        kind: how the set is reduced.
        embedding_dim: D of the embeddings.
        images: size of the sets in training.
        dim: width of tokens and of the pooled vector.
        tokens: number of tokens.
    """

    @register_to_config
    def __init__(
        self,
        kind: Literal["mean", "max", "linear", "set_transformer"],
        embedding_dim: int,
        images: int,
        dim: int,
        tokens: int,
    ):
        super().__init__()
        self.null = nn.Parameter(torch.randn(embedding_dim) * 0.02)
        """Learned embedding that stands for no style."""
        self.project = nn.Linear(embedding_dim * (images if kind == "linear" else 1), dim)
        if kind == "set_transformer":
            self.attend_within = AttentionBlock(dim)
            self.seeds = nn.Parameter(torch.randn(tokens, dim) * 0.02)
            self.attend_seeds = AttentionBlock(dim)
        else:
            self.expand = nn.Sequential(nn.SiLU(), nn.Linear(dim, tokens * dim))

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Aggregate sets.

        Args:
            embeddings: (B, n, D).

        Returns:
            tokens (B, T, dim), pooled (B, dim).
        """
        size = len(embeddings)
        embeddings = embeddings.to(self.dtype)
        match self.config.kind:
            case "set_transformer":
                members = self.project(embeddings)
                members = self.attend_within(members, members)
                tokens = self.attend_seeds(self.seeds.expand(size, -1, -1), members)
                return tokens, tokens.mean(1)
            case "linear":
                order = torch.arange(self.config.images, device=embeddings.device) % embeddings.shape[1]
                pooled = self.project(embeddings[:, order].flatten(1))
            case "max":
                pooled = self.project(embeddings).amax(1)
            case _:
                pooled = self.project(embeddings).mean(1)
        return self.expand(pooled).unflatten(1, (self.config.tokens, -1)), pooled


class AttentionBlock(nn.Module):
    """Multihead attention block of the Set Transformer (Lee et al. 2019, eq. 6–7)."""

    def __init__(self, dim: int, heads: int = 4):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.first_norm = nn.LayerNorm(dim)
        self.second_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, queries: Tensor, members: Tensor) -> Tensor:
        attended = self.first_norm(queries + self.attention(queries, members, members, need_weights=False)[0])
        return self.second_norm(attended + self.feed_forward(attended))
