import torch

from stedm.style.moments import image_moments, remove_colour, restore_colour, set_colour


def tinted(*shape):
    """Images whose channels go together, as stained tissue's do."""
    return torch.einsum(
        "ij,...jhw->...ihw", torch.tensor([[0.5, 0.1, 0], [0.3, 0.3, 0], [0.1, 0.2, 0.1]]), torch.randn(*shape)
    )


def covariances(images):
    return torch.stack([torch.cov(image.flatten(1), correction=0) for image in images])


def test_moments_are_those_of_torch():
    images = tinted(5, 3, 8, 8)
    moments = image_moments(images)
    torch.testing.assert_close(moments[:, :3], images.mean((2, 3)))
    torch.testing.assert_close(moments[:, 3:6], images.flatten(2).std(2, correction=0))
    correlations = torch.stack([torch.corrcoef(image.flatten(1)) for image in images])
    torch.testing.assert_close(moments[:, 6:], correlations[:, [0, 0, 1], [1, 2, 2]])


def test_colour_of_a_set_is_that_of_its_images_side_by_side():
    images = tinted(4, 7, 3, 8, 8) * torch.rand(4, 7, 3, 1, 1) + torch.randn(4, 7, 3, 1, 1)
    features = torch.randn(4, 7, 10)
    mean, covariance = set_colour(torch.cat([features, image_moments(images)], -1))
    together = images.transpose(1, 2).flatten(3).flatten(2)  # (4, 3, all pixels)
    torch.testing.assert_close(mean, together.mean(2))
    torch.testing.assert_close(covariance, covariances(together), atol=1e-5, rtol=1e-4)


def test_colour_that_is_removed_and_put_back_is_the_same():
    images = tinted(5, 3, 8, 8)
    colour = set_colour(image_moments(images)[:, None])
    plain = remove_colour(images, *colour)
    torch.testing.assert_close(plain.mean((2, 3)), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(covariances(plain), torch.eye(3).expand(5, 3, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(restore_colour(plain, *colour), images, atol=1e-5, rtol=0)


def test_an_even_style_image_does_not_blow_up_the_target():
    even = set_colour(image_moments(torch.zeros(1, 1, 3, 8, 8)))
    assert remove_colour(torch.rand(1, 3, 8, 8), *even).abs().max() <= 100
