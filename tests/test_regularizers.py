"""Regularizers and losses: definitions, gradients and bad input."""

import pytest
import torch

from fvfast.losses import cosine_similarity, dot_cossim
from fvfast.regularizers import l1_reg, l2_reg, l_inf_reg, total_variation_reg

ALL = [l1_reg, l2_reg, l_inf_reg, total_variation_reg]


def random_images(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


def test_values_written_out():
    image = torch.tensor([[[[3.0, -4.0], [0.0, 0.0]]]])
    images = torch.cat((image, -2 * image))
    assert l1_reg(2.0)(images).tolist() == [3.5, 7.0]
    assert l2_reg(2.0)(images).tolist() == [5.0, 10.0]  # sqrt(25 / 4) = 2.5
    assert l_inf_reg(2.0)(images).tolist() == [8.0, 16.0]
    # down: 3 + 4, right: 7 + 0
    assert total_variation_reg(2.0)(images).tolist() == [28.0, 56.0]


@pytest.mark.parametrize("regularizer", ALL)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 4, 5, 7), (3, 7, 1, 6)])
def test_gradient(regularizer, shape):
    images = random_images(*shape).requires_grad_()
    assert regularizer(0.7)(images).shape == shape[:1]
    assert torch.autograd.gradcheck(regularizer(0.7), (images,))


@pytest.mark.parametrize("regularizer", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_image_has_zero_penalty_and_zero_gradient(regularizer, dtype):
    images = torch.zeros(2, 3, 6, 5, dtype=dtype, requires_grad=True)
    penalty = regularizer()(images)
    penalty.sum().backward()
    assert penalty.tolist() == [0, 0]
    assert torch.equal(images.grad, torch.zeros_like(images))


def test_total_variation_ignores_a_constant():
    images = random_images(2, 3, 8, 9)
    expected = total_variation_reg()(images)
    torch.testing.assert_close(total_variation_reg()(images + 5), expected)
    assert (expected > 1).all()


@pytest.mark.parametrize("regularizer", ALL)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 3, 8, 8), (2, 3, 0, 8)])
def test_other_shapes_are_refused(regularizer, shape):
    with pytest.raises(ValueError, match=r"images have shape .*expected \(N, C, H, W\)"):
        regularizer()(torch.zeros(shape))


def test_cosine_similarity_of_known_angles():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    b = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 1.0], [1.0, 1.0]])
    expected = torch.tensor([1.0, 0.0, -(0.5**0.5), 0.0])
    torch.testing.assert_close(cosine_similarity(a, b), expected)


def test_norms_are_limited_as_tensorflow_limits_them():
    # The squared norm 1e-14 is below 1e-12, so the vector is divided by 1e-6 and not by 1e-7.
    a = torch.tensor([[1e-7, 0.0]], dtype=torch.float64)
    b = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert cosine_similarity(a, b).item() == pytest.approx(0.1, rel=1e-9)


def test_dot_product_is_summed_over_the_batch():
    a, b = random_images(3, 4, 2, 2), random_images(3, 4, 2, 2).flip(0) + 0.5
    for power in (0.0, 1.0, 2.5):
        expected = cosine_similarity(a, b).clamp(min=0.1) ** power * (a * b).sum()
        torch.testing.assert_close(dot_cossim(a, b, power), expected)
    torch.testing.assert_close(dot_cossim(a, b), dot_cossim(a, b, 2.0))


def test_one_target_for_the_whole_batch():
    a, target = random_images(3, 4), random_images(1, 4) + 1
    torch.testing.assert_close(dot_cossim(a, target), dot_cossim(a, target.expand(3, 4)))


def test_small_cosine_has_no_gradient_of_its_own():
    a = torch.tensor([[0.05, 1.0]], requires_grad=True)
    b = torch.tensor([[1.0, 0.0]])
    dot_cossim(a, b, 2.0).sum().backward()
    torch.testing.assert_close(a.grad, 0.01 * b)  # 0.1 ** 2 times the gradient of the dot product


@pytest.mark.parametrize("loss", [cosine_similarity, dot_cossim])
def test_loss_gradients(loss):
    a = random_images(2, 5).requires_grad_()
    b = (random_images(2, 5).flip(1) + a.detach()).requires_grad_()
    assert (cosine_similarity(a, b) > 0.2).all()  # away from the kink at 0.1
    assert torch.autograd.gradcheck(loss, (a, b))
    zero = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    loss(zero, b).sum().backward()
    assert zero.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    a = torch.full((1, 64), 300.0, dtype=dtype)  # 300 ** 2 * 64 overflows float16
    assert cosine_similarity(a, a).item() == pytest.approx(1, abs=1e-6)
    assert dot_cossim(a, a).dtype == torch.float32


@pytest.mark.parametrize("loss", [cosine_similarity, dot_cossim])
@pytest.mark.parametrize(
    ("shape_a", "shape_b"), [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,)), ((2, 3, 4), (2, 3))]
)
def test_unequal_shapes_are_refused(loss, shape_a, shape_b):
    with pytest.raises(ValueError, match=r"the tensors have shapes .*expected \(N, \.\.\.\)"):
        loss(torch.zeros(shape_a), torch.zeros(shape_b))
