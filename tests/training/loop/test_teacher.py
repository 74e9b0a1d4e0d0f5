"""What a teacher says, and what of it is kept."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="training/requirements.txt is not installed")

import torch
from torch import Tensor, nn

from training.data.augment import FREE
from training.data.dataset import Sample
from training.loop.teacher import Teacher

pytestmark = pytest.mark.training


class DrawingNetwork(nn.Module):
    """Draws a third of the value of the image as the embedding, and each box as its mask."""

    def __init__(self, image_size: int = 256) -> None:
        super().__init__()
        self.image_size = image_size
        self.share = nn.Parameter(torch.tensor(1 / 3))
        self.dropout = nn.Dropout(0.5)
        self.seen: list[Tensor] = []
        self.boxes: list[Tensor] = []

    def encode(self, image: Tensor) -> Tensor:
        assert image.shape == (1, 3, self.image_size, self.image_size)
        self.seen.append(image)
        value = self.dropout(image.mean()) * self.share
        return value.expand(1, 256, 64, 64).clone()

    def decode(self, image_embedding: Tensor, boxes: Tensor) -> Tensor:
        assert image_embedding.shape == (1, 256, 64, 64)
        self.boxes.append(boxes)
        place = torch.arange(256) * self.image_size / 256
        x0, y0, x1, y1 = (boxes[:, i, None, None] for i in range(4))
        inside = (place >= x0) & (place <= x1) & (place[:, None] >= y0) & (place[:, None] <= y1)
        return inside.float() * 2 - 1


def sample(
    key="CT/a.npz#3", geometry="none", level=0.25, teacher_size=256, mtime_ns=1, **changes
) -> Sample:
    """A sample of two objects: the box of the first fits, that of the second is twice as wide."""
    masks = np.zeros((2, 256, 256), dtype=np.float32)
    masks[0, 10:20, 30:50] = 1
    masks[1, 100:110, 100:104] = 1
    whole = Sample(
        key=key,
        mtime_ns=mtime_ns,
        modality="CT",
        image=np.zeros((3, 256, 256), dtype=np.float32),
        teacher_image=np.full((3, teacher_size, teacher_size), level, dtype=np.float32),
        boxes=np.array([[30, 10, 49, 19], [100, 100, 107, 109]], dtype=np.float32),
        masks=masks,
        other_boxes=np.zeros((0, 4), dtype=np.float32),
        geometry=geometry,
    )
    return dataclasses.replace(whole, **changes)


def make_teacher(cache_dir=None, *, name="float", image_size=256) -> Teacher:
    return Teacher(DrawingNetwork(image_size), name=name, student_size=256, cache_dir=cache_dir)


def cached(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.npy"))


def test_a_lesson_is_worth_the_mean_iou_of_the_teachers_masks():
    (lesson,) = make_teacher().teach([sample()])
    assert lesson.iou.item() == pytest.approx((1 + 1 / 2) / 2)
    assert lesson.embedding.shape == (256, 64, 64)
    assert lesson.embedding.mean().item() == pytest.approx(0.25 / 3, rel=1e-3)


def test_masks_that_miss_are_worth_nothing():
    missed = sample(boxes=np.full((2, 4), 200, dtype=np.float32))
    assert make_teacher().teach([missed])[0].iou.item() == 0


def test_samples_are_taught_one_by_one_in_their_order():
    teacher = make_teacher()
    lessons = teacher.teach([sample(level=level) for level in (0.5, 0.25, 1.0)])
    means = [lesson.embedding.mean().item() for lesson in lessons]
    assert means == pytest.approx([0.5 / 3, 0.25 / 3, 1 / 3], rel=1e-4)
    assert teacher.teach([]) == []


def test_a_teacher_does_not_learn_and_drops_nothing_out():
    teacher = make_teacher()
    assert not teacher.network.training
    lessons = [teacher.teach([sample()])[0] for _ in range(2)]
    torch.testing.assert_close(lessons[0].embedding, lessons[1].embedding)
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    assert not lessons[0].embedding.requires_grad
    assert not lessons[0].iou.requires_grad


def test_the_teacher_sees_its_own_image():
    teacher = make_teacher(image_size=512)
    teacher.teach([sample(level=0.75, teacher_size=512)])
    (seen,) = teacher.network.seen
    assert seen.shape == (1, 3, 512, 512)
    assert set(seen.unique().tolist()) == {0.75}


@pytest.mark.parametrize(
    ("image_size", "expected"),
    [
        (256, [30, 10, 49, 19]),
        # The centre of pixel 30 of 256 is at 30.5 / 256, 122 of 1024, where pixel 121.5 is.
        (1024, [121.5, 41.5, 197.5, 77.5]),
        (128, [14.75, 4.75, 24.25, 9.25]),
    ],
)
def test_boxes_are_brought_to_the_frame_of_the_teacher(image_size, expected):
    teacher = make_teacher(image_size=image_size)
    assert teacher.image_size == image_size
    teacher.teach([sample(teacher_size=image_size)])
    assert teacher.network.boxes[0][0].tolist() == pytest.approx(expected)


def test_what_is_kept_is_not_made_again(tmp_path):
    teacher = make_teacher(tmp_path)
    first = teacher.teach([sample()])[0]
    again = teacher.teach([sample()])[0]
    assert len(teacher.network.seen) == 1
    # Three decimals of values around 0.1.
    torch.testing.assert_close(again.embedding, first.embedding, rtol=1e-3, atol=0)
    assert again.embedding.dtype == torch.float32
    assert again.iou.item() == first.iou.item()
    another = make_teacher(tmp_path)
    another.teach([sample()])
    assert another.network.seen == []


def test_a_lesson_is_the_same_whether_it_was_kept_or_not(tmp_path):
    # A run that is killed and goes on finds what it kept after its checkpoint.
    teacher = make_teacher(tmp_path)
    first, again = (teacher.teach([sample()])[0] for _ in range(2))
    torch.testing.assert_close(again.embedding, first.embedding, rtol=0, atol=0)


def test_a_kept_embedding_is_validated_by_the_boxes_and_masks_of_the_sample(tmp_path):
    teacher = make_teacher(tmp_path)
    teacher.teach([sample()])
    one = sample()
    one = dataclasses.replace(one, boxes=one.boxes[1:], masks=one.masks[1:])
    assert teacher.teach([one])[0].iou.item() == pytest.approx(1 / 2)
    assert len(teacher.network.seen) == 1


def test_a_sample_of_free_geometry_is_not_kept(tmp_path):
    teacher = make_teacher(tmp_path)
    for level in (0.25, 0.5):
        lesson = teacher.teach([sample(geometry=FREE, level=level)])[0]
        assert lesson.embedding.mean().item() == pytest.approx(level / 3, rel=1e-4)
    assert cached(tmp_path) == []


def test_files_slices_and_flips_are_kept_apart(tmp_path):
    teacher = make_teacher(tmp_path)
    samples = [
        sample(key, geometry, level=(i + 1) / 16)
        for i, (key, geometry) in enumerate(
            [
                ("CT/a.npz#3", "none"),
                ("CT/a.npz#3", "h"),
                ("CT/a.npz#3", "v"),
                ("CT/a.npz#3", "hv"),
                ("CT/a.npz#4", "none"),
                ("CT/b.npz#3", "none"),
            ]
        )
    ]
    for _ in range(2):
        lessons = teacher.teach(samples)
        means = [lesson.embedding.mean().item() for lesson in lessons]
        assert means == pytest.approx([(i + 1) / 48 for i in range(6)], rel=1e-3)
    assert len(teacher.network.seen) == len(cached(tmp_path)) == 6


def test_teachers_of_different_names_are_kept_apart(tmp_path):
    make_teacher(tmp_path, name="medsam").teach([sample(level=0.5)])
    other = make_teacher(tmp_path, name="lite_medsam")
    lesson = other.teach([sample(level=0.25)])[0]
    assert lesson.embedding.mean().item() == pytest.approx(0.25 / 3, rel=1e-3)
    assert [path.split("/")[0] for path in cached(tmp_path)] == ["lite_medsam", "medsam"]


def test_a_file_that_was_written_anew_is_looked_at_anew(tmp_path):
    teacher = make_teacher(tmp_path)
    teacher.teach([sample(level=0.5, mtime_ns=1)])
    lesson = teacher.teach([sample(level=0.25, mtime_ns=2)])[0]
    assert lesson.embedding.mean().item() == pytest.approx(0.25 / 3, rel=1e-3)


def test_an_embedding_takes_two_megabytes_and_leaves_nothing_else(tmp_path):
    make_teacher(tmp_path).teach([sample()])
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert path.stat().st_size == pytest.approx(2 << 20, rel=0.001)


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    teacher = make_teacher(None)
    teacher.teach([sample(), sample()])
    assert len(teacher.network.seen) == 2
    assert list(tmp_path.iterdir()) == []


class SureOfSome(DrawingNetwork):
    """Is sure of boxes on the left."""

    def decode(self, image_embedding, boxes):
        sureness = torch.where(boxes[:, 0] < 128, 5.0, 0.5)
        return super().decode(image_embedding, boxes) * sureness[:, None, None]


def test_other_boxes_are_taught_by_what_the_teacher_is_sure_of():
    boxes = np.array([[10, 10, 60, 60], [200, 10, 250, 60]], dtype=np.float32)
    teacher = Teacher(SureOfSome(256), name="float", student_size=256, cache_dir=None)
    (lesson,) = teacher.teach([sample(other_boxes=boxes)])
    assert lesson.other_logits.shape == (2, 256, 256)
    assert (lesson.other_logits[0] > 0).sum() == 51 * 51
    assert lesson.trust.tolist() == [1.0, 0.0]
    assert lesson.iou.item() == pytest.approx((1 + 1 / 2) / 2)  # which the others do not change


def test_without_other_boxes_none_are_taught():
    (lesson,) = make_teacher().teach([sample()])
    assert lesson.other_logits.shape == (0, 256, 256)
    assert lesson.trust.shape == (0,)
