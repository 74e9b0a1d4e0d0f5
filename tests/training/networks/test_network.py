"""Structure of the networks; weights are random, the published ones have their own tests."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training/requirements.txt is not installed")

from training.networks.layers import (  # noqa: E402
    ConvNorm,
    LayerNorm2d,
    fold_batch_norm,
    join_windows,
    split_windows,
)
from training.networks.network import (  # noqa: E402
    build_lite_medsam,
    build_medsam,
    build_qmedsam,
    count_parameters,
)
from training.networks.tiny_vit import _distance_index  # noqa: E402
from training.networks.vit import GLOBAL_BLOCKS, Attention, Block, VisionTransformer  # noqa: E402

pytestmark = pytest.mark.training

# Order of float operations only.
TOLERANCE = 1e-5


def test_parameter_counts_equal_table_1():
    counts = count_parameters(build_lite_medsam())
    assert counts.image_encoder == 5_736_623
    assert counts.prompt_encoder == 6_476
    assert counts.mask_decoder == 4_058_340


def test_medsam_has_the_size_of_table_1_and_the_same_heads():
    with torch.device("meta"):
        counts = count_parameters(build_medsam())
    assert counts.image_encoder == 89_670_912
    assert counts.prompt_encoder == 6_476
    assert counts.mask_decoder == 4_058_340


def test_windows_are_cut_row_by_row_and_joined_again():
    x = torch.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    windows = split_windows(x, 2)
    assert windows.shape == (12, 2, 2, 1)
    assert windows[1].flatten().tolist() == [2, 3, 8, 9]
    assert torch.equal(join_windows(windows, 4, 6), x)


def test_folding_keeps_what_a_convolution_and_its_norm_compute():
    block = torch.nn.Sequential(ConvNorm(3, 4, kernel_size=3, stride=2), torch.nn.GELU())
    norm = block[0].bn
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    torch.nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    block.eval()
    x = torch.randn(2, 3, 9, 9)
    expected = block(x)
    fold_batch_norm(block)
    assert isinstance(block[0], torch.nn.Conv2d)
    torch.testing.assert_close(block(x), expected, atol=TOLERANCE, rtol=0)


def test_layer_norm_2d_equals_layer_norm_over_the_last_axis():
    layer = LayerNorm2d(8)
    torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 8, 3, 5)
    expected = torch.nn.functional.layer_norm(
        x.permute(0, 2, 3, 1), (8,), layer.weight, layer.bias, layer.eps
    ).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer(x), expected, atol=TOLERANCE, rtol=0)


def test_the_attention_bias_goes_by_distance():
    index = _distance_index(3)
    # Pixels 0 and 4 of a 3 x 3 window are one row and one column apart, as are 8 and 4.
    assert index[0, 4] == index[8, 4] == index[4, 0] == 1 * 3 + 1
    assert index[0, 2] == 2
    assert index[6, 0] == 2 * 3
    assert index.diagonal().tolist() == [0] * 9


def test_padded_windows_give_back_the_size_that_came():
    block = Block(size=16, window=14).eval()
    assert block(torch.randn(1, 16, 16, 768)).shape == (1, 16, 16, 768)


def test_relative_positions_are_added_per_row_and_column():
    attention = Attention(size=3).eval()
    torch.nn.init.normal_(attention.rel_pos_h)
    torch.nn.init.normal_(attention.rel_pos_w)
    q = torch.randn(1, 12, 3, 3, 64)
    bias = attention._relative_bias(q)
    # Query at row 2, column 0; key at row 0, column 1: offsets of 2 and -1 from the middle, 2.
    expected = (q[0, 5, 2, 0] * (attention.rel_pos_h[4] + attention.rel_pos_w[1])).sum()
    torch.testing.assert_close(bias[0, 5, 2 * 3 + 0, 0 * 3 + 1], expected)


def test_medsam_mixes_windows_in_its_global_blocks_only():
    encoder = VisionTransformer(image_size=512, depth=4)
    assert [block.window for block in encoder.blocks] == [
        0 if i in GLOBAL_BLOCKS else 14 for i in range(4)
    ]
    with torch.inference_mode():
        assert encoder.eval()(torch.rand(1, 3, 512, 512)).shape == (1, 256, 32, 32)


def test_medsam_segments_boxes_of_its_own_frame():
    network = build_medsam(depth=1).eval()
    boxes = torch.tensor([[10.0, 20, 900, 1000], [0, 0, 5, 5]])
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 1024, 1024), boxes).shape == (2, 256, 256)


def test_boxes_are_decoded_independently():
    network = build_lite_medsam().eval()
    embedding = torch.randn(1, 256, 64, 64)
    boxes = torch.rand(3, 2, 2).sort(dim=1).values.reshape(3, 4) * 256
    with torch.inference_mode():
        together = network.decode(embedding, boxes)
        alone = torch.cat([network.decode(embedding, box[None]) for box in boxes])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_the_iou_is_rated_with_the_same_logits():
    torch.manual_seed(0)
    network = build_lite_medsam().eval()
    embedding, boxes = torch.randn(1, 256, 16, 32), torch.tensor([[3.0, 4.0, 50.0, 60.0]] * 2)
    with torch.no_grad():
        logits, iou = network.decode_rated(embedding, boxes)
        torch.testing.assert_close(logits, network.decode(embedding, boxes))
    assert logits.shape == (2, 64, 128)
    assert iou.shape == (2,)


def test_the_network_for_the_cpu_has_whole_windows_and_no_batch_normalization():
    network = build_qmedsam()
    windows = {block.window for layer in network.image_encoder.layers[1:] for block in layer.blocks}
    assert windows == {8, 16}
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    with torch.no_grad():
        assert network.encode(torch.rand(1, 3, 64, 128)).shape == (1, 256, 16, 32)
