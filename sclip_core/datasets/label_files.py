"""What is stored in the file of a label map, whatever a reader makes of it for a screen."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, GifImagePlugin, ImageFile, PngImagePlugin, TiffImagePlugin

from sclip_core.config import ImageError
from sclip_core.config.errors import few
from sclip_core.datasets.integrity import refuse_damaged
from sclip_core.datasets.label_arrays import NPY_START, plane, read_array, whole_numbers
from sclip_core.datasets.palettes import VOC_VOID, voc_colours

MOST_PIXELS = 1 << 30  # as OpenCV takes of an image: a few KB may claim to be more than memory

# Opened by their own class: `PIL.Image.open` warns of a decompression bomb above 89 megapixels.
READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\x89PNG": PngImagePlugin.PngImageFile,
    b"II*\0": TiffImagePlugin.TiffImageFile,
    b"MM\0*": TiffImagePlugin.TiffImageFile,
    b"II+\0": TiffImagePlugin.TiffImageFile,  # BigTIFF
    b"MM\0+": TiffImagePlugin.TiffImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
}
SINGLE_CHANNEL = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L"}
WITH_ALPHA = {"LA", "PA"}
COLOURED = {"RGB", "RGBA", "RGBX"}
MASK_IN_ALPHA = {"LA", "RGBA"}
PNG_BITS = 24  # where the header of a PNG has the bits of a channel
GREY = 0x010101  # times a value: the code of its grey
TIFF_SUBFILE = 254
TIFF_BITS, TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0


class ColourError(ImageError):
    """A label map has colours where one class id a pixel was expected."""


def opened(data: bytes, name: str) -> ImageFile.ImageFile:
    """Open a label map and look at its header.

    Args:
        data: the file's bytes.
        name: what to call it in an error, e.g. its path.

    Raises:
        ImageError: cut short, another format, or too large.
    """
    refuse_damaged(data, name)
    reader = next((READERS[start] for start in READERS if data.startswith(start)), None)
    if reader is None:
        raise ImageError(
            f"{name} is not a label map (it starts {data[:8]!r}): "
            "expected a single-channel PNG, TIFF, BMP, GIF or NPY; JPEG would blur the labels"
        )
    try:
        image = reader(io.BytesIO(data))
    except Exception as error:  # Pillow's readers raise a dozen kinds
        raise _undecodable(name, error) from None
    pages = _full_pages(image)
    if pages > 1:
        raise ImageError(
            f"{name} holds {pages} pages or frames: expected one label map a file; one mask for "
            "each class becomes class ids by argmax over the pages"
        )
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ImageError(
            f"{name} has {width:,}x{height:,} pixels: expected at most {MOST_PIXELS:,}"
        )
    return image


def _full_pages(image: ImageFile.ImageFile) -> int:
    """How many pictures of the same size a file has; smaller ones are previews or overviews."""
    frames = int(getattr(image, "n_frames", 1))  # BMP has none
    if frames == 1:
        return 1
    pages, size = 0, image.size
    try:
        for number in range(frames):
            image.seek(number)
            preview = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(
                TIFF_SUBFILE, 0
            )
            pages += image.size == size and not preview
    finally:
        image.seek(0)
    return pages


def stored_values(data: bytes, name: str) -> NDArray[np.int32]:
    """The values (H, W) that a label map holds: of a palette the indices, not the colours.

    Colours whose three channels are equal everywhere are the grey that they show. Where all pixels
    have one colour and only alpha differs, alpha is the mask.

    Raises:
        ColourError: it has colours.
        ImageError: it is no label map.
    """
    if data.startswith(NPY_START):
        return plane(read_array(data, name), name)
    image = opened(data, name)
    bits = _bits(image, data)
    try:
        if isinstance(image, GifImagePlugin.GifImageFile):
            return _of_gif(image, name)
        if image.mode in SINGLE_CHANNEL:
            return _unscaled(image, bits)
        if image.mode == "F":
            return whole_numbers(np.asarray(image), name)
        if image.mode in WITH_ALPHA | COLOURED and bits == 8:
            channels = np.asarray(image)
            colours = channels[..., : 1 if image.mode in WITH_ALPHA else 3]
            if image.mode in MASK_IN_ALPHA and _only_alpha_differs(channels):
                return channels[..., -1].astype(np.int32)
            if (colours == colours[..., :1]).all():
                return colours[..., 0].astype(np.int32)
    except ImageError:
        raise
    except Exception as error:
        raise _undecodable(name, error) from None
    kind = ColourError if image.mode in COLOURED else ImageError
    raise kind(
        f"{name} is not single-channel (Pillow mode {image.mode}"
        f"{f', {bits} bits a channel' if bits > 8 else ''}): "
        "expected one class id a pixel, as grey or palette PNG"
    )


def stored_colours(data: bytes, name: str) -> NDArray[np.int32]:
    """The colours (H, W) of a label map, each as one number, 0xRRGGBB; alpha is left out.

    Raises:
        ImageError: it is no label map, or its channels have more than 8 bits.
    """
    if data.startswith(NPY_START):
        return _codes(_colours_of(read_array(data, name), name))
    image = opened(data, name)
    if _bits(image, data) > 8:
        raise ImageError(f"{name} has more than 8 bits a channel: expected colours, red green blue")
    try:
        channels = np.asarray(image.convert("RGB"), np.int32)
    except Exception as error:
        raise _undecodable(name, error) from None
    return _codes(channels)


def is_grey_in_colour(data: bytes, name: str) -> bool:
    """Whether a label map has several channels, judged by its header."""
    return not data.startswith(NPY_START) and opened(data, name).mode in COLOURED | WITH_ALPHA


def is_mask_in_alpha(data: bytes, name: str) -> bool:
    """Whether all pixels have one colour and alpha is what `stored_values` gives."""
    if data.startswith(NPY_START):
        return False
    image = opened(data, name)
    if image.mode not in MASK_IN_ALPHA or _bits(image, data) != 8:
        return False
    return _only_alpha_differs(np.asarray(image))


def _only_alpha_differs(channels: NDArray[np.uint8]) -> bool:
    """Whether the pixels (H, W, C), alpha last, have one colour and more than one alpha."""
    flat = channels.reshape(-1, channels.shape[-1])
    return bool((flat[:, :-1] == flat[0, :-1]).all() and (flat[:, -1] != flat[0, -1]).any())


def _colours_of(array: NDArray[np.generic], name: str) -> NDArray[np.int32]:
    """Colours (H, W, 3) in an array of bytes."""
    if array.ndim != 3 or array.shape[-1] not in (3, 4) or array.dtype != np.uint8:
        raise ImageError(
            f"{name} is an array of {array.dtype} of the shape {array.shape}: with --palette, "
            "expected uint8 (height, width, 3)"
        )
    return array[..., :3].astype(np.int32)


def _codes(channels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Colours (H, W, 3) as one number each, 0xRRGGBB."""
    codes: NDArray[np.int32] = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
    return codes


def _of_gif(image: GifImagePlugin.GifImageFile, name: str) -> NDArray[np.int32]:
    """The indices of a GIF where its palette, grey or PASCAL VOC's, shows that they are class ids.

    Many writers leave out colours without a pixel and number the others anew, file by file, so that
    the indices under other palettes may mean anything.

    Raises:
        ColourError: it has another palette.
        ImageError: its greys are others than its indices.
    """
    indices = np.asarray(image).astype(np.int32)
    codes = _codes(np.asarray(image.convert("RGB"), np.int32))
    of_voc = np.array(voc_colours())[indices]
    is_border = (indices == 255) & (codes == VOC_VOID)
    if (codes == indices * GREY).all() or ((codes == of_voc) | is_border).all():
        return indices
    if (codes % GREY == 0).all():
        raise ImageError(
            f"{name}: the palette of this GIF shows the indices "
            f"{few(np.unique(indices).tolist(), 6)} as the greys "
            f"{few(np.unique(codes // GREY).tolist(), 6)}, and either may be the class ids: save "
            "the label maps as PNG"
        )
    raise ColourError(
        f"{name} has colours, whose numbers in a GIF are those of its writer, not of the classes"
    )


def _unscaled(image: ImageFile.ImageFile, bits: int) -> NDArray[np.int32]:
    """The values of one channel; Pillow spreads grey of 2 and 4 bits over 0..255."""
    values = np.asarray(image).astype(np.int32)
    deep = image.mode.startswith("I")
    white_is_zero = (
        isinstance(image, TiffImagePlugin.TiffImageFile)
        and image.tag_v2.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO
    )
    if white_is_zero and not deep:  # shown inverted; of 16 bits, Pillow gives what is stored
        values = (1 if image.mode == "1" else 255) - values
    if image.mode == "L" and bits in (2, 4):
        values //= 255 // ((1 << bits) - 1)
    return values


def _bits(image: ImageFile.ImageFile, data: bytes) -> int:
    """The bits of a channel in the file."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return data[PNG_BITS]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TIFF_BITS, 1)
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def _undecodable(name: str, error: Exception) -> ImageError:
    if str(error) == "unknown pixel mode":
        return ImageError(
            f"{name} holds pixels of a kind that Pillow does not read, such as integers of 64 "
            "bits: save it with 8, 16 or 32 bits, or as NPY"
        )
    return ImageError(f"{name} cannot be decoded ({error}): copy or download it again")
