"""The fused fake quantization against Brevitas' own and against plain autograd."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from brevitas.core.quant import IntQuant  # noqa: E402

from training.quantization import fake_quant  # noqa: E402
from training.quantization.fake_quant import FakeQuantize, FusedIntQuant  # noqa: E402

pytestmark = pytest.mark.training

SHAPE = (2, 3, 6, 5)
# A sum over the values in another order, or a product in another order than autograd's.
ROUNDING = 1e-5
LIMITS = {"signed": (-128.0, 127.0), "unsigned": (0.0, 255.0), "2-bit": (0.0, 3.0)}


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch):
    """Compiling takes seconds for each dtype and range; one test does it."""
    monkeypatch.setattr(fake_quant, "_compiled_forward", fake_quant._forward)
    monkeypatch.setattr(fake_quant, "_compiled_backward", fake_quant._backward)


def one_scale():
    return torch.tensor(0.037), torch.tensor(3.0)


def scale_of_each_channel():
    scale = torch.tensor([0.011, 0.037, 1.3]).reshape(1, 3, 1, 1)
    return scale, torch.tensor([3.0, 0.0, 1.0]).reshape(1, 3, 1, 1)


SCALES = pytest.mark.parametrize(
    "scales", [one_scale, scale_of_each_channel], ids=["per tensor", "per channel"]
)


def both_quantizers(*, signed):
    options = {"narrow_range": False, "signed": signed, "input_view_impl": torch.nn.Identity()}
    return FusedIntQuant(**options), IntQuant(**options)


@SCALES
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", range(2, 9))
def test_values_are_those_of_brevitas(bits, signed, scales):
    fused, brevitas = both_quantizers(signed=signed)
    scale, zero_point = scales()
    x = torch.randn(SHAPE) * 2 ** (bits - 2) * scale  # about a third lies outside
    wanted = brevitas(scale, zero_point, torch.tensor(float(bits)), x)
    rounded = fused(scale, zero_point, torch.tensor(float(bits)), x)
    assert torch.equal(rounded, wanted)
    assert not torch.equal(rounded, x)
    assert len(torch.unique(rounded[:, 0])) <= 2**bits


@SCALES
def test_bf16_values_are_rounded_in_float_and_stay_bf16(scales):
    fused, brevitas = both_quantizers(signed=False)
    x = torch.randn(SHAPE).bfloat16()
    scale, zero_point = scales()
    rounded = fused(scale, zero_point, torch.tensor(8.0), x)
    wanted = brevitas(scale, zero_point, torch.tensor(8.0), x.float())
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, wanted.bfloat16())


@SCALES
@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(2, 3),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x[:, :, ::2, 1:],
        lambda x: x[:, :, :1].expand(-1, -1, 4, -1),
    ],
    ids=["contiguous", "channels last", "transposed", "channels first", "gaps", "repeats"],
)
def test_any_layout_gives_the_same_values_and_gradients(view, scales):
    x = view(torch.randn(SHAPE))
    gradient = torch.randn(x.shape)
    scale, zero_point = scales()
    found, wanted = (
        gradients_of(fused_quantize, values, scale, zero_point, gradient, LIMITS["signed"])
        for values in (x, x.contiguous())
    )
    assert found[0].shape == x.shape
    for ours, theirs in zip(found[:2], wanted[:2], strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(found[2:], wanted[2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(
    ("scales", "view"),
    [
        (one_scale, lambda x: x),
        (one_scale, lambda x: x.contiguous(memory_format=torch.channels_last)),
        (one_scale, lambda x: x.transpose(1, 3)),
        (scale_of_each_channel, lambda x: x.contiguous(memory_format=torch.channels_last)),
    ],
    ids=["contiguous", "channels last", "transposed", "channels last, per channel"],
)
def test_a_dense_tensor_keeps_its_strides(view, scales):
    x = view(torch.randn(SHAPE))
    rounded = FakeQuantize.apply(x, *scales(), *LIMITS["signed"])
    assert (rounded.shape, rounded.stride()) == (x.shape, x.stride())


@pytest.mark.parametrize("shape", [(7,), (4, 7), (2, 4, 7), ()], ids=str)
def test_one_scale_serves_any_number_of_axes(shape):
    fused, brevitas = both_quantizers(signed=True)
    scale, zero_point = one_scale()
    x = torch.randn(shape)
    arguments = (scale, zero_point, torch.tensor(8.0), x)
    assert torch.equal(fused(*arguments), brevitas(*arguments))


def test_a_scale_of_each_channel_answers_brevitas_lone_zero():
    fused, brevitas = both_quantizers(signed=False)
    scale, zero_point = scale_of_each_channel()
    arguments = (scale, zero_point, torch.tensor(8.0), torch.tensor(0.0))
    assert torch.equal(fused(*arguments), brevitas(*arguments))


def fused_quantize(x, scale, zero_point, low, high):
    return FakeQuantize.apply(x, scale, zero_point, low, high)


def plain_quantize(x, scale, zero_point, low, high):
    """The same with operations that autograd knows; only rounding passes gradients through."""
    exact = x.float() / scale + zero_point
    rounded = torch.round(exact).detach() + (exact - exact.detach())
    return ((torch.clamp(rounded, low, high) - zero_point) * scale).to(x.dtype)


def gradients_of(quantize, x, scale, zero_point, gradient, limits):
    """The result, and the gradients of values, scale and zero point."""
    leaves = [
        leaf.detach().as_strided(leaf.shape, leaf.stride()).requires_grad_()
        for leaf in (x, scale.clone(), zero_point.clone())
    ]
    rounded = quantize(*leaves, *limits)
    rounded.backward(gradient.to(rounded.dtype))
    return [rounded.detach(), *(leaf.grad for leaf in leaves)]


@SCALES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_gradients_are_those_of_autograd_and_damped(limits, dtype, scales):
    scale, zero_point = scales()
    span = scale * (limits[1] - limits[0])
    x = (torch.randn(SHAPE) * span / 2).to(dtype)
    gradient = torch.randn(SHAPE).to(dtype)
    found = gradients_of(fused_quantize, x, scale, zero_point, gradient, limits)
    wanted = gradients_of(plain_quantize, x, scale, zero_point, gradient, limits)
    assert torch.equal(found[0], wanted[0])
    torch.testing.assert_close(found[1], wanted[1])
    assert torch.equal(found[1] == 0, wanted[1] == 0)
    values_of_a_scale = 2 * 3 * 6 * 5 / scale.numel()
    damping = 1 / (values_of_a_scale * limits[1]) ** 0.5
    for ours, theirs in zip(found[2:], wanted[2:], strict=True):
        assert ours.shape == scale.shape
        assert (theirs != 0).all()
        torch.testing.assert_close(ours, theirs * damping, rtol=ROUNDING, atol=ROUNDING)


# torch 2.13 imports its own deprecated parts when it compiles for the first time.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@SCALES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
def test_compilation_changes_neither_values_nor_gradients(dtype, scales, monkeypatch):
    scale, zero_point = scales()
    x = (torch.randn(SHAPE) * 128 * scale).to(dtype)
    arguments = (x, scale, zero_point, torch.randn(SHAPE).to(dtype), LIMITS["signed"])
    plain = gradients_of(fused_quantize, *arguments)
    for name in ("_forward", "_backward"):
        compiled = fake_quant._Compiled(getattr(fake_quant, name))
        monkeypatch.setattr(fake_quant, f"_compiled{name}", compiled)
    with torch._dynamo.config.patch(recompile_limit=64):
        found = gradients_of(fused_quantize, *arguments)
    assert torch.equal(found[0], plain[0])
    assert torch.equal(found[1], plain[1])
    for ours, theirs in zip(found[2:], plain[2:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=ROUNDING, atol=ROUNDING)


def test_without_a_compiler_the_function_itself_is_called(monkeypatch):
    monkeypatch.setattr(fake_quant.shutil, "which", lambda name: None)
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("there is no compiler"))
    assert fake_quant._Compiled(lambda a, b: a - b)(5, 3) == 2


def test_gradients_pass_inside_the_range_and_stop_outside():
    x = torch.tensor([-1.0, -0.26, -0.24, 0.0, 0.3, 1.74, 1.76, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    zero_point = torch.tensor(0.0, requires_grad=True)
    rounded = FakeQuantize.apply(x, scale, zero_point, 0.0, 3.0)
    assert rounded.tolist() == [0, 0, 0, 0, 0.5, 1.5, 1.5, 1.5]
    rounded.backward(torch.arange(1.0, 9.0))
    # What rounds to a step within the limits counts as inside: -0.24 to 0 and 1.74 to 3 steps.
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 0, 0]
    damping = 1 / (8 * 3) ** 0.5
    # Inside the distance to the step, outside the limit, in steps, each times what comes in.
    steps = 3 * 0.48 + 5 * 0.4 + 6 * (3 - 3.48) + 7 * 3 + 8 * 3
    assert scale.grad.item() == pytest.approx(steps * damping, rel=1e-5)
    assert zero_point.grad.item() == pytest.approx(-0.5 * (1 + 2 + 7 + 8) * damping, rel=1e-5)


def test_the_gradient_of_a_scale_does_not_grow_with_the_image_as_its_values_do():
    def scale_gradient(x):
        scale = torch.tensor(0.1, requires_grad=True)
        FakeQuantize.apply(x, scale, torch.tensor(0.0), -8.0, 7.0).backward(torch.ones_like(x))
        return scale.grad.item()

    x = torch.randn(100)
    # Four times the values are four times the sum and half the factor.
    assert scale_gradient(x.repeat(4)) == pytest.approx(2 * scale_gradient(x), rel=1e-4)
