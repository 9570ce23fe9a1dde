"""Reading real files of every odd kind."""

import struct
import zlib

import numpy as np
import pytest
from picture_files import blobs
from PIL import Image

from evaluation.files.pictures import problem_with, read_picture
from mot_lab.data.picture_files import (
    FRAMES,
    GREY,
    PALETTE,
    SIXTEEN_BITS,
    TRANSPARENT,
    TURNED,
)

RGB = blobs(1, 0)[0]
GREY_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)


def saved(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_plain_pictures_come_as_torch_fidelity_reads_them(tmp_path):
    for name in ("a.png", "a.bmp", "a.tif", "a.jpg"):
        path = saved(tmp_path, Image.fromarray(RGB), name)
        pixels, oddities = read_picture(path)
        assert (pixels == np.asarray(Image.open(path).convert("RGB"))).all()
        assert pixels.dtype == np.uint8 and oddities == []


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_is_three_equal_channels(tmp_path, mode):
    image = Image.fromarray(GREY_HW).convert(mode)
    pixels, oddities = read_picture(saved(tmp_path, image))
    assert (pixels == np.asarray(image.convert("L"))[..., None]).all() and oddities == [GREY]


def test_transparency_is_laid_on_white(tmp_path):
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[0], alpha[1] = 0, 51
    rgba = np.dstack([RGB, alpha])
    pixels, oddities = read_picture(saved(tmp_path, Image.fromarray(rgba)))
    assert oddities == [TRANSPARENT]
    assert (pixels[0] == 255).all() and (pixels[2:] == RGB[2:]).all()
    assert np.abs(pixels[1] - (0.2 * RGB[1] + 0.8 * 255)).max() <= 1

    grey = Image.fromarray(np.dstack([GREY_HW, alpha]), "LA")
    pixels, oddities = read_picture(saved(tmp_path, grey))
    assert oddities == [GREY, TRANSPARENT] and (pixels[0] == 255).all()


def test_an_opaque_alpha_channel_changes_nothing(tmp_path):
    rgba = np.dstack([RGB, np.full((16, 16), 255, np.uint8)])
    pixels, oddities = read_picture(saved(tmp_path, Image.fromarray(rgba)))
    assert (pixels == RGB).all() and oddities == []


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, name):
    deep = (GREY_HW.astype(np.uint16) << 8) + 200
    pixels, oddities = read_picture(saved(tmp_path, Image.fromarray(deep), name))
    assert (pixels == GREY_HW[..., None]).all()
    assert oddities == [GREY, SIXTEEN_BITS]


def test_sixteen_bit_colour_is_counted_too(tmp_path):
    deep = (RGB.astype(">u2") << 8) + 77
    (tmp_path / "a.ppm").write_bytes(b"P6 16 16 65535\n" + deep.astype(">u2").tobytes())
    pixels, oddities = read_picture(tmp_path / "a.ppm")
    assert np.abs(pixels.astype(int) - RGB).max() <= 1 and oddities == [SIXTEEN_BITS]
    (tmp_path / "a.png").write_bytes(_png(16, 16, 16, 2, deep.astype(">u2").tobytes(), 96))
    pixels, oddities = read_picture(tmp_path / "a.png")
    assert (pixels == RGB).all() and oddities == [SIXTEEN_BITS]


def test_palettes(tmp_path):
    image = Image.fromarray(RGB).quantize(8)
    pixels, oddities = read_picture(saved(tmp_path, image))
    assert (pixels == np.asarray(image.convert("RGB"))).all() and oddities == [PALETTE]
    pixels, oddities = read_picture(saved(tmp_path, image, transparency=0))
    assert oddities == [TRANSPARENT, PALETTE]
    assert (pixels[np.asarray(image) == 0] == 255).all()


def test_a_rotation_in_exif_is_carried_out(tmp_path):
    wide = np.concatenate([RGB, 255 - RGB], axis=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    for name in ("a.png", "a.jpg"):
        path = saved(tmp_path, Image.fromarray(wide), name, exif=exif)
        pixels, oddities = read_picture(path)
        assert oddities == [TURNED] and pixels.shape == (32, 16, 3)
        assert (pixels == np.rot90(np.asarray(Image.open(path).convert("RGB")), -1)).all()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_the_first_frame_counts(tmp_path, name):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (10, 200)]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    pixels, oddities = read_picture(path)
    assert FRAMES in oddities and np.abs(pixels.astype(int) - 10).max() <= 2


def test_other_colour_spaces_are_named(tmp_path):
    image = Image.fromarray(RGB).convert("CMYK")
    pixels, oddities = read_picture(saved(tmp_path, image, "a.tif"))
    assert oddities == ["of colour space CMYK"] and np.abs(pixels.astype(int) - RGB).max() <= 1


def _png(width, height, depth, colour, samples, row_bytes):
    """A PNG file written out, for depths that Pillow does not write."""

    def chunk(kind, data):
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    rows = b"".join(
        b"\0" + samples[start : start + row_bytes] for start in range(0, len(samples), row_bytes)
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def broken_files(folder):
    """Files that are no pictures, by what is said of them."""
    for ending in ("png", "jpg", "bmp"):
        Image.fromarray(blobs(1, 0, 64)[0]).save(folder / f"cut.{ending}")
        data = (folder / f"cut.{ending}").read_bytes()
        (folder / f"cut.{ending}").write_bytes(data[: len(data) * 2 // 3])
    flipped = folder / "flipped.png"
    Image.fromarray(blobs(1, 0, 64)[0]).save(flipped)
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 255
    flipped.write_bytes(bytes(data))
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture at all")
    Image.fromarray(np.ones((4, 4), np.float32)).save(folder / "float.tif")
    Image.fromarray(np.ones((4, 4), np.int32)).save(folder / "int.tif")
    return sorted(folder.iterdir())


def test_broken_files_are_found_before_the_work_and_refused_when_read(tmp_path):
    said = {path.name: problem_with(path) for path in broken_files(tmp_path)}
    assert all(said.values()) and len(said) == 8
    assert said["empty.png"] == "empty file" and said["text.jpg"] == "not a picture"
    assert "truncated" in said["cut.jpg"] and "32-bit samples (mode F)" in said["float.tif"]
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError):
            read_picture(path)


def test_whole_files_have_no_problem(tmp_path):
    for name in ("a.png", "a.jpg", "a.gif", "a.webp", "a.bmp", "a.tif"):
        assert problem_with(saved(tmp_path, Image.fromarray(RGB), name)) is None
