import pytest
import torch

from stedm.style.aggregators import StyleAggregator

KINDS = ("mean", "max", "linear", "set_transformer")


def aggregator(kind):
    torch.manual_seed(0)
    return StyleAggregator(kind, embedding_dim=10, images=4, dim=16, tokens=3).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4, 9])
def test_sets_of_any_size_give_one_condition(kind, size):
    tokens, pooled = aggregator(kind)(torch.randn(2, size, 10))
    assert tokens.shape == (2, 3, 16)
    assert pooled.shape == (2, 16)


@pytest.mark.parametrize("kind", KINDS)
def test_order_matters_to_the_linear_aggregator_alone(kind):
    embeddings = torch.randn(2, 4, 10)
    module = aggregator(kind)
    tokens, pooled = module(embeddings)
    other_tokens, other_pooled = module(embeddings[:, [2, 0, 3, 1]])
    same = torch.allclose(tokens, other_tokens, atol=1e-5) and torch.allclose(pooled, other_pooled, atol=1e-5)
    assert same == (kind != "linear")


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_of_the_set_counts(kind):
    embeddings = torch.randn(1, 4, 10, requires_grad=True)
    tokens, pooled = aggregator(kind)(embeddings)
    (tokens.sum() + pooled.square().sum()).backward()
    assert (embeddings.grad.abs().sum(-1) > 0).all()


def test_mean_of_equal_members_is_the_member():
    module = aggregator("mean")
    one = torch.randn(2, 1, 10)
    torch.testing.assert_close(module(one)[1], module(one.expand(-1, 5, -1))[1])
