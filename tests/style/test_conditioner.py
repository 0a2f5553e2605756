import pytest
import torch

from stedm.config import Style
from stedm.style.conditioner import build_conditioner
from stedm.style.moments import MOMENTS

SMALL = {"encoder": {"dim": 16}, "tokens": 3, "images": 2}


def images(count):
    return torch.rand(count, 3, 32, 32, generator=torch.manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("null", ["learned", "constant_image"])
def test_no_style_is_a_learned_embedding_or_that_of_a_grey_image(null):
    style = build_conditioner(Style(**SMALL, null=null)).eval()
    expected = style.aggregator.null if null == "learned" else style.encoder(torch.zeros(1, 3, 64, 64))[0]
    torch.testing.assert_close(style.null(), expected)


def test_images_become_embeddings_and_those_a_condition():
    style = build_conditioner(Style(**SMALL))
    embeddings = style.embed(images(4))
    assert embeddings.shape == (4, 16 + MOMENTS)
    tokens, pooled = style(embeddings.unflatten(0, (2, 2)))
    assert (tokens.shape, pooled.shape) == ((2, 3, 16), (2, 16))


@pytest.mark.parametrize("sampler", ["none", "multi_patch"])
def test_without_a_trained_encoder_there_is_none_and_the_null_embedding_is_learned(sampler, tmp_path):
    encoder = SMALL["encoder"] | ({} if sampler == "none" else {"name": str(tmp_path), "trainable": False})
    style = build_conditioner(Style(**SMALL | {"encoder": encoder}, sampler=sampler), 40)
    assert style.encoder is None
    assert style.null().shape == (40,)
