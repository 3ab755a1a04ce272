import base64
import re
import struct
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from otx_xai.data import decoders, read_image
from otx_xai.errors import ImageError

RGB = (10, 100, 200)
SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8), (160, 120))

# 16x12 pixels of RGB, as a CMYK JPEG with Adobe's inverted inks.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAIBgYHBgUIBwcHCQkICgwUDQwLCwwZEhMPFB0aHx4dGhwcICQuJyAiLCMcHCg3KSwwMTQ0"
    "NB8nOT04MjwuMzQy/8AAFAgADAAQBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAAHBf/EABQQAQAAAAAAAAAAAAAA"
    "AAAAAAD/2gAOBEMATQBZAEsAAD8AhLDUhfwAAAH/2Q=="
)


def encode(suffix, array, *options):
    return cv2.imencode(suffix, array, options)[1].tobytes()


def bgr(dtype=np.uint8, factor=1):
    return np.full((12, 16, 3), [value * factor for value in reversed(RGB)], dtype)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def exif(orientation):
    return b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + b"\0\0\0\0"


@pytest.fixture
def read(tmp_path):
    def write_and_read(data, name="image"):
        (tmp_path / name).write_bytes(data)
        return read_image(tmp_path / name)

    return write_and_read


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_formats(read, suffix):
    image = read(encode(suffix, bgr()))
    assert image.dtype == np.uint8
    assert image.shape == (12, 16, 3)
    assert image.flags.c_contiguous
    np.testing.assert_allclose(image, np.broadcast_to(RGB, image.shape), atol=0 if suffix in (".png", ".bmp") else 2)


def test_name_does_not_matter(read):
    np.testing.assert_array_equal(read(encode(".png", bgr()), "größe 猫.jpg")[0, 0], RGB)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled(read, suffix):
    np.testing.assert_allclose(read(encode(suffix, bgr(np.uint16, 257)))[3, 3], RGB, atol=1)
    np.testing.assert_allclose(read(encode(suffix, bgr(np.uint16, 257)[..., 0]))[3, 3], RGB[2], atol=1)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_grey_becomes_rgb(read, suffix):
    np.testing.assert_allclose(read(encode(suffix, np.full((5, 4), 77, np.uint8))), np.full((5, 4, 3), 77), atol=1)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped(read, suffix):
    with_alpha = np.dstack([bgr(), np.full((12, 16), 90, np.uint8)])
    np.testing.assert_allclose(read(encode(suffix, with_alpha))[5, 5], RGB, atol=2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(1, 1, 8, 4, b"\0\x40\x80"), [[[64] * 3]]),
        (png(1, 1, 16, 4, b"\0\x40\x40\x80\x80"), [[[64] * 3]]),
        (png(8, 1, 1, 0, b"\0\xf0"), [[[255] * 3] * 4 + [[0] * 3] * 4]),
        (png(2, 1, 8, 3, b"\0\x01\0", chunk(b"PLTE", bytes([*RGB, 1, 2, 3]))), [[[1, 2, 3], RGB]]),
        (
            png(2, 1, 8, 3, b"\0\x01\0", chunk(b"PLTE", bytes([*RGB, 1, 2, 3])), chunk(b"tRNS", b"\0\x80")),
            [[[1, 2, 3], RGB]],
        ),
    ],
    ids=["grey and alpha", "grey and alpha, 16 bits", "1 bit", "palette", "palette and alpha"],
)
def test_kinds_of_png(read, data, expected):
    np.testing.assert_array_equal(read(data), expected)


def test_cmyk_jpeg(read):
    image = read(CMYK_JPEG)
    assert image.shape == (12, 16, 3)
    np.testing.assert_allclose(image, np.broadcast_to(RGB, image.shape), atol=3)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, lambda a: a), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_exif_orientation_is_applied(read, orientation, turn):
    plain = encode(".png", SMOOTH)
    turned = plain[:33] + chunk(b"eXIf", exif(orientation)) + plain[33:]
    np.testing.assert_array_equal(read(turned), turn(read(plain)))
    plain = encode(".jpg", SMOOTH)
    segment = b"Exif\0\0" + exif(orientation)
    turned = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    np.testing.assert_array_equal(read(turned), turn(read(plain)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.int32, np.int16, np.int8])
def test_tiff_of_values_without_a_range_is_refused(read, dtype, channels):
    with pytest.raises(ImageError, match=f"TIFF image .* holds {np.dtype(dtype)} values"):
        read(encode(".tif", np.full((12, 16, channels), 50, dtype)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("factor", [1, 1 / 255])
def test_floating_point_tiff(read, dtype, factor):
    image = read(encode(".tif", (bgr() * factor).astype(dtype)))
    np.testing.assert_array_equal(image, np.broadcast_to(RGB, (12, 16, 3)))
    grey = read(encode(".tif", (bgr()[..., 0] * factor).astype(dtype)))
    np.testing.assert_array_equal(grey, np.full((12, 16, 3), RGB[2]))


@pytest.mark.parametrize("values", [(-0.5, 1), (0, 256), (0, np.nan), (0, np.inf)])
def test_floating_point_tiff_beyond_any_range_is_refused(read, values):
    with pytest.raises(ImageError, match=r"TIFF image .* holds float32 values from .* 0 to 1, or from 0 to 255"):
        read(encode(".tif", np.resize(np.float32(values), (12, 16))))


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match=r"nowhere\.jpg' does not exist"):
        read_image(tmp_path / "nowhere.jpg")


def test_folder(tmp_path):
    with pytest.raises(ImageError, match="is a folder" if sys.platform != "win32" else ""):
        read_image(str(tmp_path))


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ImageError, match="cannot be read: Permission denied"):
        read_image(tmp_path / "a.jpg")


def test_empty_file(read):
    with pytest.raises(ImageError, match="empty file"):
        read(b"")


@pytest.mark.parametrize("data", [b"x", b"hello world, this is no image" * 10, b"\0" * 100])
def test_no_image(read, data):
    with pytest.raises(ImageError, match="is not an image: no kind of image begins with the bytes"):
        read(data)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95, -3, -1])
@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("JPEG", encode(".jpg", SMOOTH)),
        ("JPEG", encode(".jpg", SMOOTH, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ("PNG", encode(".png", SMOOTH)),
        ("BMP", encode(".bmp", SMOOTH)),
        ("WebP", encode(".webp", SMOOTH, cv2.IMWRITE_WEBP_QUALITY, 80)),
        ("WebP", encode(".webp", SMOOTH, cv2.IMWRITE_WEBP_QUALITY, 101)),
        ("TIFF", encode(".tif", SMOOTH)),
    ],
    ids=["jpeg", "progressive jpeg", "png", "bmp", "webp", "lossless webp", "tiff"],
)
def test_cut_short(read, capfd, kind, data, part):
    cut = data[:part] if part < 0 else data[: int(len(data) * part)]
    with pytest.raises(ImageError, match=f"is a broken {kind} file"):
        read(cut)
    assert capfd.readouterr().err == ""


def with_thumbnail(data):
    thumbnail = encode(".jpg", SMOOTH[:32, :32])
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]


def test_end_of_a_thumbnail_is_not_the_end_of_the_jpeg(read):
    data = with_thumbnail(encode(".jpg", SMOOTH))
    np.testing.assert_array_equal(read(data), read(encode(".jpg", SMOOTH)))
    with pytest.raises(ImageError, match="end marker is missing"):
        read(data[: int(len(data) * 0.8)])


@pytest.mark.parametrize("behind", [b"\0" * 9, b"\xff\xda and more", b"\n"])
def test_what_stands_behind_a_jpeg_does_not_matter(read, behind):
    for options in ((), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)):
        data = with_thumbnail(encode(".jpg", SMOOTH, *options))
        np.testing.assert_array_equal(read(data + behind), read(data))


def test_wrong_checksum(read, capfd):
    data = bytearray(encode(".png", SMOOTH))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match="checksum of its IDAT chunk"):
        read(bytes(data))
    assert capfd.readouterr().err == ""


def test_harmless_chunks_say_nothing(read, capfd):
    data = encode(".png", SMOOTH)
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"no profile"))
    np.testing.assert_array_equal(read(data[:33] + profile + data[33:] + b"behind"), read(data))
    assert capfd.readouterr().err == ""


def test_too_large(read):
    with pytest.raises(ImageError, match=r"cannot be decoded: OpenCV says|is a broken PNG file"):
        read(png(100_000, 100_000, 8, 2, b"\0" * 50))


def test_the_log_level_of_opencv_comes_back(read):
    log = decoders._silent_cv2._log
    before = log.getLogLevel()
    data = encode(".png", SMOOTH)

    def work():
        for _ in range(20):
            read(data, str(threading.get_ident()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(ImageError):
        read(b"no image")
    assert log.getLogLevel() == before


def test_errors_are_one_paragraph(read):
    for data in (b"", b"text", encode(".png", SMOOTH)[:99]):
        with pytest.raises(ImageError) as caught:
            read(data)
        assert re.fullmatch(r"[^\n]+\.", str(caught.value))
