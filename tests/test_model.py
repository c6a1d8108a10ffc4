"""The contract of DESIGN.md on single images, without any pipeline."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, normalize

import sclip_core
from sclip_core import SCLIP, ImageError, Protocol, UserError, Vocabulary, pamr, propose_masks
from sclip_core.encoder import check_protocol
from sclip_core.encoder.clip import default_batch_size
from sclip_core.encoder.pixels import normalise, resize

from .conftest import GOLDEN, TINY

CLASSES = ["cat, kitten", "grass", "sky"]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A smooth picture with noise, 150×200."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((200, 150), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + rng.integers(-20, 21, smooth.shape)).clip(0, 255).astype(np.uint8)


def cosines(model: SCLIP, image: np.ndarray, short_side: int) -> torch.Tensor:
    """Words × patches of the whole image, by the pieces of the API."""
    scale = short_side / min(image.shape[:2])
    size = tuple(int(side * scale + 0.5) for side in image.shape[:2])
    tokens = model.dense_tokens(normalise(resize(image, size))[None])[0, 1:]
    bank = model.text_bank(CLASSES)
    flat = bank.embeddings @ normalize(tokens, dim=-1).T
    return flat.view(len(bank.embeddings), size[0] // 16, size[1] // 16)


class TestMethods:
    """What each method gives."""

    def test_dense_similarity(self, tiny, image):
        similarity = tiny.dense_similarity(image, CLASSES, short_side=240)  # wider than a window
        words = cosines(tiny, image, 240)
        expected = torch.stack([torch.maximum(words[0], words[1]), words[2], words[3]])
        assert similarity.shape == (3, 15, 20)
        assert similarity.dtype == torch.float32
        torch.testing.assert_close(similarity, expected, atol=1e-5, rtol=0)

    def test_dense_similarity_encodes_the_words_once(self, tiny, image, monkeypatch):
        calls = []
        real = SCLIP.text_bank
        monkeypatch.setattr(SCLIP, "text_bank", lambda *a: calls.append(a) or real(*a))
        tiny.dense_similarity(image, CLASSES)
        assert len(calls) == 1

    def test_logits_of_the_whole_image(self, tiny, image):
        logits = tiny.logits(image, classes=CLASSES, slide_crop=0, short_side=112)
        expected = interpolate(cosines(tiny, image, 112)[None], size=(150, 200), mode="bilinear")
        torch.testing.assert_close(logits, expected[0], atol=1e-5, rtol=0)
        assert logits.dtype == torch.float32

    def test_logits_are_before_the_scale(self, tiny, image):
        one, two = (tiny.logits(image, classes=CLASSES, logit_scale=s) for s in (1, 100))
        assert torch.equal(one, two)

    def test_logits_are_after_pamr(self, tiny, image):
        protocol = Protocol(short_side=112)
        before = tiny.logits(image, protocol, classes=CLASSES)
        after = tiny.logits(image, protocol, classes=CLASSES, pamr_steps=2, pamr_dilations=(1, 3))
        resized = normalise(resize(image, (112, 149)))
        original = interpolate(resized[None], size=(150, 200), mode="bilinear")[0]
        torch.testing.assert_close(after, pamr(original, before, 2, (1, 3)), atol=0, rtol=0)
        assert not torch.allclose(after, before, atol=1e-3)

    def test_segment(self, tiny, image):
        seg = tiny.segment(image, classes=CLASSES)
        words = tiny.logits(image, classes=CLASSES)
        scores = torch.stack([words[:2].amax(0), words[2], words[3]])
        assert seg.class_names == ("cat", "grass", "sky")
        assert seg.labels.dtype == np.uint8
        np.testing.assert_array_equal(seg.labels, scores.argmax(0))

    @pytest.mark.parametrize("steps", [0, 2])
    def test_heat_is_the_best_logit_of_what_is_named(self, tiny, image, steps):
        names = {"kitten": [1], "cat": [0, 1], "sky": [3], "cat, kitten": [0, 1]}
        given = {"classes": CLASSES, "pamr_steps": steps, "short_side": 112}
        seg = tiny.segment(image, heat=list(names), **given)
        words = tiny.logits(image, **given)
        assert list(seg.heat) == list(names)
        for name, indices in names.items():
            assert seg.heat[name].dtype == np.float32
            expected = np.maximum.reduce([words[index].numpy() for index in indices])
            np.testing.assert_allclose(seg.heat[name], expected, atol=2e-6)
        assert not np.allclose(seg.heat["kitten"], seg.heat["cat"], atol=1e-3)
        np.testing.assert_array_equal(seg.labels, tiny.segment(image, **given).labels)

    def test_labels_are_where_the_heat_is_highest(self, tiny, image):
        for steps in (0, 3):
            seg = tiny.segment(
                image, classes=CLASSES, heat=["cat", "grass", "sky"], pamr_steps=steps
            )
            hottest = np.stack(list(seg.heat.values())).argmax(axis=0)
            assert (hottest == seg.labels).mean() > 0.999

    def test_heat_costs_no_second_pass_through_the_encoder(self, tiny, image, monkeypatch):
        calls = []
        real = SCLIP.window_features
        monkeypatch.setattr(
            SCLIP, "window_features", lambda *given: calls.append(given) or real(*given)
        )
        tiny.segment(image, classes=CLASSES, heat=["cat", "sky"])
        assert len(calls) == 1

    def test_masks_leave_the_heat_as_it_is(self, tiny, image):
        pytest.importorskip("skimage")
        masks = propose_masks(image, "felzenszwalb")
        given = {"classes": CLASSES, "heat": ["sky"]}
        bare, filled = tiny.segment(image, **given), tiny.segment(image, masks=masks, **given)
        np.testing.assert_array_equal(filled.heat["sky"], bare.heat["sky"])
        assert (filled.labels != bare.labels).any()

    def test_no_heat_unless_it_is_asked_for(self, tiny, image):
        assert tiny.segment(image, classes=CLASSES).heat == {}

    def test_dense_tokens(self, tiny):
        tokens = tiny.dense_tokens(torch.zeros(2, 3, 32, 50))
        assert tokens.shape == (2, 1 + 2 * 3, 32)
        assert not torch.allclose(tokens.norm(dim=-1), torch.ones(2, 7), atol=0.1)

    def test_text_bank_takes_every_kind_of_classes(self, tiny):
        vocabulary = Vocabulary.from_classes(CLASSES)
        banks = [
            tiny.text_bank(classes)
            for classes in (CLASSES, [["cat", "kitten"], ["grass"], ["sky"]], vocabulary)
        ]
        for bank in banks:
            assert torch.equal(bank.embeddings, banks[0].embeddings)
            assert bank.query_class.tolist() == [0, 0, 1, 2]
            assert bank.class_names == ("cat", "grass", "sky")
        assert banks[0].embeddings.shape == (4, 32)

    def test_a_word_is_encoded_once(self, tiny, monkeypatch):
        tiny.text_bank(["otter"])
        monkeypatch.setattr("sclip_core.encoder.clip.encode_word", pytest.fail)
        tiny.text_bank(["otter", "cat"])

    def test_windows(self, tiny, image):
        geometry, windows = tiny.windows(image, Protocol())
        whole = tiny.pixels(image, geometry)
        assert windows.shape == (geometry.num_windows, 3, 224, 224)
        assert geometry.resized == (336, 448)
        row, column = 1, 2  # both shifted back to the border
        torch.testing.assert_close(windows[row * 3 + column], whole[:, 112:336, 224:448])

    def test_window_features_do_not_depend_on_the_batch(self, tiny, image):
        _, windows = tiny.windows(image, Protocol())
        together = tiny.window_features(windows)
        assert together.shape == (6, 14, 14, 32)
        for size in (1, 4, 100):
            apart = tiny.window_features(windows, batch_size=size)
            torch.testing.assert_close(apart, together, atol=2e-4, rtol=0)  # sharpened attention

    def test_batch_size_by_device(self):
        cpu, cuda = torch.device("cpu"), torch.device("cuda")
        for shape, expected in (((224, 224), 16), ((48, 48), 315), ((2048, 1024), 1)):
            assert default_batch_size(cpu, shape, 16) == expected
            assert default_batch_size(cuda, shape, 16) >= expected

    def test_results_are_ordinary_tensors(self, tiny, image):
        logits = tiny.logits(image, classes=CLASSES)
        similarity = tiny.dense_similarity(image, CLASSES)
        for tensor in (logits, similarity):
            tensor *= 2


class TestProtocols:
    """How a call says what it wants."""

    def test_name_object_and_overrides_are_one(self, tiny):
        with np.load(GOLDEN / "shapes_300x420.npz") as arrays:
            image = arrays["image_bgr"][:100, :140, ::-1]
        named = tiny.segment(image, protocol="voc21").labels
        as_object = tiny.segment(image, protocol=Protocol.named("voc21")).labels
        spelled = tiny.segment(
            image,
            classes=Vocabulary.named("voc21"),
            logit_scale=65,
            prob_thd=0.1,
            area_thd=0.1,
        ).labels
        np.testing.assert_array_equal(named, as_object)
        np.testing.assert_array_equal(named, spelled)

    def test_keywords_beat_the_protocol(self, tiny, image):
        protocol = Protocol(short_side=112, prob_thd=1.0)
        assert (tiny.segment(image, protocol, CLASSES).labels == 0).all()
        assert (tiny.segment(image, protocol, CLASSES, prob_thd=0).labels != 0).any()

    def test_classes_beat_the_protocols_vocabulary(self, tiny, image):
        seg = tiny.segment(image, protocol="cityscapes", classes=["a", "b"])
        assert seg.class_names == ("a", "b")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({}, "no words to look for"),
            ({"protocol": "voc2"}, "Did you mean 'voc2"),
            ({"classes": []}, "the list is empty"),
            ({"classes": "cat"}, "expected a list"),
            ({"classes": ["cat"], "pamr_step": 3}, "Did you mean 'pamr_steps'?"),
            ({"classes": ["cat"], "pamr_steps": -1}, "pamr_steps=-1"),
            ({"classes": ["cat"], "slide_stride": 0}, "slide_stride=0"),
            ({"classes": ["cat"], "slide_stride": 300}, "larger than slide_crop=224"),
            ({"classes": ["cat"], "slide_crop": 15, "slide_stride": 8}, "slide_crop=15 is smaller"),
            ({"classes": ["cat"], "short_side": 15}, "short_side=15 is smaller than a patch"),
        ],
    )
    @pytest.mark.parametrize("method", ["segment", "logits"])
    def test_mistakes(self, tiny, image, monkeypatch, method, arguments, says):
        monkeypatch.setattr(SCLIP, "window_features", pytest.fail)  # nothing is encoded
        monkeypatch.setattr(SCLIP, "text_bank", pytest.fail)
        with pytest.raises(UserError) as error:
            getattr(tiny, method)(image, **arguments)
        assert says in str(error.value)
        assert "\n" not in str(error.value)
        assert not isinstance(error.value, ImageError)

    def test_heat_of_a_word_that_is_not_there(self, tiny, image, monkeypatch):
        monkeypatch.setattr(SCLIP, "text_bank", pytest.fail)  # nothing is encoded
        with pytest.raises(UserError, match=r"unknown word 'kiten'.*'kitten'"):
            tiny.segment(image, classes=CLASSES, heat=["sky", "kiten"])

    def test_dense_similarity_checks_too(self, tiny, image):
        with pytest.raises(UserError, match="short_side=8 is smaller than a patch"):
            tiny.dense_similarity(image, CLASSES, short_side=8)

    @pytest.mark.parametrize("crop", [0, 14, 15, 224])
    def test_check_protocol_lets_pass(self, crop):
        check_protocol(Protocol(slide_crop=crop, slide_stride=7, short_side=14), patch=14)

    def test_check_protocol(self):
        protocol = Protocol(slide_crop=13, slide_stride=7)
        with pytest.raises(UserError, match=r"slide_crop=13 .* patch of the model, 14 pixels") as e:
            check_protocol(protocol, patch=14)
        assert "or 0 for the whole image" in str(e.value)


class TestImages:
    """What may be given as an image, and of which size."""

    def test_numpy_and_pil_agree(self, tiny, image):
        expected = tiny.segment(image, classes=CLASSES).labels
        picture = Image.fromarray(image)
        for same in (picture, picture.convert("RGBA"), image[::-1].copy()[::-1]):
            labels = tiny.segment(same, classes=CLASSES).labels
            np.testing.assert_array_equal(labels, expected)

    def test_bgr_turned_round(self, tiny, image):
        """cv2's habit: a view with a negative stride."""
        turned = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
        assert turned.strides[2] < 0
        expected = tiny.logits(image, classes=CLASSES)
        assert torch.equal(tiny.logits(turned, classes=CLASSES), expected)

    @pytest.mark.filterwarnings("error")
    def test_read_only_arrays(self, tiny, image):
        """At the target size too, where nothing is resized."""
        frozen = image.copy()
        frozen.flags.writeable = False
        tiny.segment(frozen, classes=CLASSES, short_side=150)

    @pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
    def test_other_pil_modes_become_rgb(self, tiny, image, mode):
        picture = Image.fromarray(image).convert(mode)
        expected = np.asarray(picture.convert("RGB"))
        np.testing.assert_array_equal(
            tiny.segment(picture, classes=CLASSES).labels,
            tiny.segment(expected, classes=CLASSES).labels,
        )

    @pytest.mark.parametrize(
        ("bad", "found"),
        [
            (np.zeros((4, 5, 3)), r"float64 array of shape \(4, 5, 3\)"),
            (np.zeros((4, 5, 3), np.uint16), "uint16 array"),
            (np.zeros((4, 5), np.uint8), r"uint8 array of shape \(4, 5\)"),
            (np.zeros((4, 5, 1), np.uint8), r"shape \(4, 5, 1\)"),
            (np.zeros((4, 5, 4), np.uint8), r"shape \(4, 5, 4\)"),
            (np.zeros((1, 4, 5, 3), np.uint8), r"shape \(1, 4, 5, 3\)"),
            (np.zeros((3, 40, 50), np.uint8), r"shape \(3, 40, 50\)"),
            (np.zeros((0, 5, 3), np.uint8), r"shape \(0, 5, 3\)"),
            (np.zeros((4, 0, 3), np.uint8), r"shape \(4, 0, 3\)"),
            (None, "found NoneType"),
            (b"RIFF", "found bytes"),
        ],
    )
    @pytest.mark.parametrize("method", ["segment", "logits", "dense_similarity"])
    def test_bad_images(self, tiny, monkeypatch, method, bad, found):
        monkeypatch.setattr(SCLIP, "text_bank", pytest.fail)  # the image is looked at first
        with pytest.raises(UserError, match=f"expected an RGB image, .*{found}") as error:
            getattr(tiny, method)(bad, classes=CLASSES)
        assert "\n" not in str(error.value)

    def test_torn_pil_image(self, tiny, image):
        """PIL reads only the header when it opens a file."""
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        torn = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))
        with pytest.raises(UserError, match="the PIL image cannot be decoded"):
            tiny.segment(torn, classes=CLASSES)

    @pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 1), (16, 16)])
    @pytest.mark.parametrize("options", [{}, {"pamr_steps": 2}, {"slide_crop": 0}])
    def test_tiny_images(self, tiny, size, options):
        picture = np.full((*size, 3), 90, np.uint8)
        assert tiny.segment(picture, classes=CLASSES, **options).labels.shape == size
        assert tiny.dense_similarity(picture, CLASSES).shape[0] == 3

    def test_so_thin_that_no_patch_is_left(self, tiny):
        with pytest.raises(ImageError, match="less than one patch"):
            tiny.segment(np.zeros((10, 3000, 3), np.uint8), classes=CLASSES)


BIG = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from sclip_core import SCLIP

    def memory(kind):  # MiB; getrusage's peak would begin with that of the process that starts us
        status = Path("/proc/self/status").read_text()
        return int(status.split(kind + ":")[1].split()[0]) / 2**10

    model, pretrained, height, width, steps = sys.argv[1:]
    sclip = SCLIP.load(model, pretrained, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    image = image.repeat(int(height) // 90, axis=0).repeat(int(width) // 120, axis=1)
    sclip.text_bank(["a", "b", "c"])
    before = memory("VmRSS")
    start = time.perf_counter()
    labels = sclip.segment(image, classes=["a", "b", "c"], pamr_steps=int(steps)).labels
    seconds = time.perf_counter() - start
    after = memory("VmHWM")
    assert labels.shape == image.shape[:2] and labels.dtype == np.uint8
    assert len(np.unique(labels)) > 1
    print(image.nbytes / 2**20, before, after, seconds)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(
    ("height", "width", "steps", "limit"),
    [
        pytest.param(9000, 12000, 0, 1500, id="12,000×9,000"),
        pytest.param(3600, 4800, 2, 2000, id="4,800×3,600 with PAMR", marks=pytest.mark.slow),
        pytest.param(9000, 12000, 1, 3500, id="12,000×9,000 with PAMR", marks=pytest.mark.slow),
    ],
)
def test_big_images_do_not_exhaust_memory(height, width, steps, limit):
    """Peak memory in MiB above what the model and the image take, in a process of its own."""
    command = [sys.executable, "-c", "import textwrap; exec(textwrap.dedent('''" + BIG + "'''))"]
    run = subprocess.run(
        [*command, TINY["model"], TINY["pretrained"], str(height), str(width), str(steps)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    picture, before, peak, seconds = map(float, run.stdout.split())
    print(
        f"{width}×{height}, {steps} PAMR steps: {peak - before:.0f} MiB above {before:.0f} MiB "
        f"(of which the picture is {picture:.0f}), {seconds:.1f} s"
    )
    assert peak - before < limit


def test_public_names():
    for name in sclip_core.__all__:
        assert getattr(sclip_core, name) is not None
