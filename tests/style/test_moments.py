import torch

from stedm.style.moments import image_moments, remove_colour, restore_colour, set_moments


def test_moments_are_those_of_torch():
    images = torch.rand(5, 3, 8, 8) * 2 - 1
    moments = image_moments(images)
    torch.testing.assert_close(moments[:, :3], images.mean((2, 3)))
    torch.testing.assert_close(moments[:, 3:], images.flatten(2).std(2, correction=0))


def test_moments_of_a_set_are_those_of_its_images_side_by_side():
    images = torch.randn(4, 7, 3, 8, 8) * torch.rand(4, 7, 3, 1, 1) + torch.randn(4, 7, 3, 1, 1)
    features = torch.randn(4, 7, 10)
    together = images.transpose(1, 2).flatten(3).flatten(2)  # (4, 3, all pixels)
    expected = torch.cat([together.mean(2), together.std(2, correction=0)], 1)
    torch.testing.assert_close(set_moments(torch.cat([features, image_moments(images)], -1)), expected)


def test_colour_that_is_removed_and_put_back_is_the_same():
    images = torch.rand(5, 3, 8, 8) * 2 - 1
    moments = image_moments(images)
    plain = remove_colour(images, moments)
    torch.testing.assert_close(plain.mean((2, 3)), torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.flatten(2).std(2, correction=0), torch.ones(5, 3))
    torch.testing.assert_close(restore_colour(plain, moments), images)


def test_an_even_style_image_does_not_blow_up_the_target():
    plain = remove_colour(torch.rand(1, 3, 8, 8), image_moments(torch.zeros(1, 3, 8, 8)))
    assert plain.abs().max() <= 50
