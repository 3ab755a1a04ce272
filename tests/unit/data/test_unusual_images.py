"""Kinds of images beside the common ones, arrays, many channels, and what is no regular file."""

import contextlib
import io
import os
import socket
import struct

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from otx_xai.data import read_image
from otx_xai.data.arrays import as_image_array
from otx_xai.data.file_kinds import is_image, kind_of
from otx_xai.errors import ImageError

RNG = np.random.default_rng(0)
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8), (48, 32))


def saved(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path):
    def write_and_read(data, name="image", channels=3):
        (tmp_path / name).write_bytes(data)
        return read_image(tmp_path / name, channels)

    return write_and_read


@pytest.fixture
def read_array(read):
    def write_and_read(values, channels=3):
        buffer = io.BytesIO()
        np.save(buffer, values)
        return read(buffer.getvalue(), "a.npy", channels)

    return write_and_read


KINDS = [
    ("GIF", {}, 40),
    ("JPEG2000", {}, 0),
    ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4),
    ("PPM", {}, 0),
    ("QOI", {}, 0),
    ("DDS", {}, 0),
    ("TGA", {}, 0),
]


class TestKinds:
    @pytest.mark.parametrize(("kind", "options", "tolerance"), KINDS)
    def test_is_read_whatever_it_is_called(self, read, kind, options, tolerance):
        data = saved(SMOOTH, kind, **options)
        image = read(data, "x.TGA" if kind == "TGA" else "no suffix")
        assert image.flags.c_contiguous
        assert image.dtype == np.uint8
        assert is_image(data) == (kind != "TGA")
        np.testing.assert_allclose(image.astype(int), SMOOTH, atol=tolerance)

    @pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
    @pytest.mark.parametrize(("kind", "options", "tolerance"), KINDS)
    def test_cut_short_is_an_error(self, read, kind, options, tolerance, part):
        data = saved(SMOOTH, kind, **options)
        with pytest.raises(ImageError, match=r"is a broken .* file: its content cannot be decoded"):
            read(data[: int(len(data) * part)], "x.tga")

    def test_an_icon_is_the_largest_of_its_pictures(self, read):
        image = Image.fromarray(SMOOTH).resize((64, 64))
        data = saved(image, "ICO", sizes=[(16, 16), (64, 64)])
        assert is_image(data)
        np.testing.assert_array_equal(read(data), np.asarray(image))

    def test_the_first_picture_of_an_animation_is_read(self, read):
        frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
        data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read(data), np.broadcast_to((255, 0, 0), (6, 8, 3)))

    def test_bands_of_a_large_picture_are_joined(self, read):
        image = Image.effect_noise((1500, 1601), 90).convert("P")
        np.testing.assert_array_equal(read(saved(image, "GIF")), np.asarray(image.convert("RGB")))

    def test_a_gif_that_promises_more_than_it_can_hold_is_refused_before_memory_is_taken(self, read):
        data = bytearray(saved(SMOOTH, "GIF"))
        data[6:10] = struct.pack("<HH", 300, 200)  # its first picture may be small
        assert read(bytes(data)).shape == (200, 300, 3)
        data[6:10] = struct.pack("<HH", 9000, 9000)
        with pytest.raises(ImageError, match=rf"{len(data)} bytes cannot hold its 9000 x 9000 pixels"):
            read(bytes(data))

    def test_a_gif_of_one_colour_holds_what_it_promises(self, read):
        data = saved(Image.new("P", (5000, 5000), 3), "GIF")
        assert len(data) < 2**15
        assert read(data).shape == (5000, 5000, 3)

    @pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA"])
    def test_modes_of_targa(self, read, mode):
        image = Image.fromarray(SMOOTH).convert(mode)
        np.testing.assert_array_equal(read(saved(image, "TGA"), "x.tga"), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
    def test_modes_of_tiff(self, read, mode):
        image = Image.fromarray(SMOOTH).convert(mode)
        np.testing.assert_allclose(read(saved(image, "TIFF")).astype(int), np.asarray(image.convert("RGB")), atol=1)

    def test_exif_turns_other_kinds_too(self, read):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"quality": 100, "subsampling": "4:4:4"}
        image = read(saved(SMOOTH, "AVIF", exif=exif, **options))
        np.testing.assert_allclose(image.astype(int), np.rot90(SMOOTH, -1), atol=4)

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (b"\0\0\0\x18ftypheic" + b"\0" * 16, "HEIC"),
            (b"\xff\x0a" + b"\0" * 16, "JPEG XL"),
            (b"v/1\x01" + b"\0" * 16, "OpenEXR"),
            (b"8BPS" + b"\0" * 16, "Photoshop"),
            (b"\0" * 128 + b"DICM" + b"\0" * 16, "DICOM"),
        ],
    )
    def test_what_nothing_here_decodes_is_named(self, read, data, kind):
        assert kind_of(data) == kind
        with pytest.raises(ImageError, match=f"is a {kind} file, of a kind that is not read"):
            read(data)

    def test_a_raw_file_of_a_camera_is_not_its_thumbnail(self, read):
        with pytest.raises(ImageError, match="raw file of a camera"):
            read(saved(SMOOTH, "TIFF"), "a.NEF")

    @pytest.mark.parametrize(
        "text", [b"BMW, Audi\n" * 9, b"P1 is the first\n", b"II. chapter\n", b"RIFF" + b"WAVE" * 9, b""]
    )
    def test_texts_and_sounds_are_no_images(self, text):
        assert not is_image(text)


class TestBroken:
    @pytest.mark.parametrize("seed", range(12))
    def test_bytes_that_are_wrong_are_an_image_error_and_nothing_else(self, tmp_path, seed):
        rng = np.random.default_rng(seed)
        grey = np.dstack([SMOOTH, SMOOTH]).astype(np.uint16)
        files = [saved(SMOOTH, kind) for kind, _, _ in KINDS] + [saved(SMOOTH, kind) for kind in ("ICO", "TIFF", "PNG")]
        files.append(tiff(grey, photometric="minisblack", planarconfig="contig", compression="zlib"))
        for data in files * 3:
            broken = np.frombuffer(data, np.uint8).copy()
            broken[rng.integers(0, min(len(broken), 400), 5)] = rng.integers(0, 256, 5)
            (tmp_path / "x.tga").write_bytes(broken.tobytes())
            with contextlib.suppress(ImageError):
                image = read_image(tmp_path / "x.tga", int(rng.choice([1, 3, 6])))
                assert image.dtype == np.uint8
                assert image.ndim == 3

    def test_sizes_that_no_memory_holds(self, read):
        data = bytearray(tiff(np.zeros((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig"))
        entry = data.index(struct.pack("<HHII", 256, 4, 1, 8))
        data[entry : entry + 12] = struct.pack("<HHII", 256, 4, 1, 2**31)
        with pytest.raises(ImageError, match="too large"):
            read(bytes(data), channels=5)


class TestSpecialFiles:
    def test_a_named_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "x.jpg")
        with pytest.raises(ImageError, match=r"x\.jpg' is a named pipe"):
            read_image(tmp_path / "x.jpg")

    def test_a_socket(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x.jpg")
            with pytest.raises(ImageError, match="is a socket"):
                read_image("x.jpg")

    def test_a_device(self):
        with pytest.raises(ImageError, match="is a device"):
            read_image(os.devnull)

    def test_a_link_that_leads_nowhere(self, tmp_path):
        (tmp_path / "x.jpg").symlink_to("gone.jpg")
        with pytest.raises(ImageError, match=r"a link to 'gone\.jpg', which leads nowhere"):
            read_image(tmp_path / "x.jpg")
        (tmp_path / "y.jpg").symlink_to("y.jpg")
        with pytest.raises(ImageError, match="which leads nowhere"):
            read_image(tmp_path / "y.jpg")


class TestArrays:
    @pytest.mark.parametrize("channels", [2, 3, 4, 6])
    @pytest.mark.parametrize("first", [False, True])
    def test_channels_stand_last_or_first(self, read_array, channels, first):
        values = RNG.integers(0, 256, (9, 7, channels)).astype(np.uint8)
        image = read_array(values.transpose(2, 0, 1) if first else values, channels)
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, values)

    def test_grey_becomes_rgb_for_networks_of_three_channels_and_of_one(self, read_array):
        values = RNG.integers(0, 256, (9, 7)).astype(np.uint8)
        for shape in ((9, 7), (9, 7, 1), (1, 9, 7)):
            for channels in (1, 3):
                np.testing.assert_array_equal(
                    read_array(values.reshape(shape), channels), np.stack([values] * 3, axis=2)
                )

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (np.array([0, 128, 257, 65535], np.uint16), [0, 0, 1, 255]),
            (np.array([0, 129, 32896, 65535], np.uint16), [0, 1, 128, 255]),
            (np.array([0, 129, 32896, 65535], ">u2"), [0, 1, 128, 255]),
            (np.array([0, 0.5, 1, 0.25], np.float32), [0, 128, 255, 64]),
            (np.array([0, 0.5, 1, 0.25], np.float16), [0, 128, 255, 64]),
            (np.array([0, 1.2, 254.6, 77], np.float64), [0, 1, 255, 77]),
            (np.array([False, True, True, False]), [0, 255, 255, 0]),
        ],
    )
    def test_values(self, read_array, values, expected):
        np.testing.assert_array_equal(read_array(values.reshape(2, 2))[..., 1].ravel(), expected)

    @pytest.mark.parametrize(
        ("values", "channels", "words"),
        [
            (np.zeros((8, 8, 4), np.uint8), 3, r"array \(8, 8, 4\), and the network takes 3 channels"),
            (np.zeros((8, 8, 3), np.uint8), 4, r"array \(8, 8, 3\), and the network takes 4 channels"),
            (np.zeros((1, 8, 8, 3), np.uint8), 3, r"array \(1, 8, 8, 3\)"),
            (np.zeros((0, 8, 3), np.uint8), 3, r"array \(0, 8, 3\)"),
            (np.zeros(8, np.uint8), 3, r"array \(8,\)"),
            (np.zeros((8, 8, 3), np.int64), 3, "int64 values, which have no agreed range"),
            (np.zeros((8, 8, 3), np.complex64), 3, "complex64 values"),
            (np.full((8, 8, 3), -1.0), 3, "float64 values from -1 to -1"),
        ],
    )
    def test_others_are_refused(self, read_array, values, channels, words):
        with pytest.raises(ImageError, match=words):
            read_array(values, channels)

    def test_broken(self, read):
        buffer = io.BytesIO()
        np.save(buffer, SMOOTH)
        for data in (buffer.getvalue()[:-9], buffer.getvalue()[:20]):
            with pytest.raises(ImageError, match=r"array '.*' cannot be read"):
                read(data, "a.npy")
        buffer = io.BytesIO()
        np.save(buffer, np.array([[{}]], object), allow_pickle=True)
        with pytest.raises(ImageError, match="Object arrays cannot be loaded"):
            read(buffer.getvalue(), "a.npy")


class TestBands:
    @pytest.mark.parametrize("channels", [2, 4, 5, 12])
    @pytest.mark.parametrize(
        "options", [{}, {"compression": "zlib", "predictor": True}, {"bigtiff": True}, {"tile": (16, 16)}]
    )
    def test_tiff_of_many_channels(self, read, channels, options):
        values = RNG.integers(0, 256, (32, 24, channels)).astype(np.uint8)
        data = tiff(values, photometric="minisblack", planarconfig="contig", **options)
        np.testing.assert_array_equal(read(data, channels=channels), values)
        planes = tiff(values.transpose(2, 0, 1).copy(), photometric="minisblack", planarconfig="separate", **options)
        np.testing.assert_array_equal(read(planes, channels=channels), values)

    @pytest.mark.parametrize("byteorder", ["<", ">"])
    def test_of_16_bits_and_of_floating_point(self, read, byteorder):
        values = RNG.integers(0, 256, (32, 24, 4)).astype(np.uint16)
        options = {"photometric": "minisblack", "planarconfig": "contig", "byteorder": byteorder}
        np.testing.assert_array_equal(read(tiff(values * 257, **options), channels=4), values)
        np.testing.assert_array_equal(read(tiff(np.float32(values / 255), **options), channels=4), values)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    @pytest.mark.parametrize("separate", [False, True])
    def test_colours_in_pixels_and_planes(self, read, dtype, separate):
        factor = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
        values = (SMOOTH * np.float64(factor)).astype(dtype)
        if separate:
            data = tiff(values.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate")
        else:
            data = tiff(values, photometric="rgb")
        np.testing.assert_array_equal(read(data), SMOOTH)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_alpha_is_a_channel_for_a_network_of_four(self, read, dtype, compression):
        values = RNG.integers(0, 256, (32, 24, 4)).astype(dtype)
        data = tiff(values * (1 if dtype == np.uint8 else 257), photometric="rgb", compression=compression)
        np.testing.assert_array_equal(read(data, channels=4), values)
        np.testing.assert_array_equal(read(data), values[..., :3])

    @pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_of_a_tiff_does_not_darken(self, read, mode, options):
        values = RNG.integers(0, 256, (32, 24, len(mode))).astype(np.uint8)
        image = read(saved(Image.fromarray(values, mode), "TIFF", **options))
        np.testing.assert_array_equal(image, np.broadcast_to(values[..., :-1], (32, 24, 3)))

    @pytest.mark.parametrize(("mode", "channels"), [("RGBA", 4), ("LA", 2)])
    @pytest.mark.parametrize("kind", ["PNG", "TGA", "WEBP"])
    def test_pictures_with_alpha(self, read, mode, channels, kind):
        if (mode, kind) == ("LA", "WEBP"):
            kind = "PNG"
        values = RNG.integers(1, 256, (32, 24, channels)).astype(np.uint8)
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        data = saved(Image.fromarray(values, mode), kind, **options)
        np.testing.assert_array_equal(read(data, "x.tga", channels), values)

    @pytest.mark.parametrize(
        ("data", "channels", "words"),
        [
            (saved(SMOOTH, "JPEG"), 4, r"no alpha channel \(JPEG\), and the network takes 4"),
            (saved(SMOOTH, "PNG"), 4, r"3 channels \(RGB\), and the network takes 4"),
            (saved(SMOOTH, "PNG"), 6, r"3 channels \(RGB\), and the network takes 6"),
            (saved(SMOOTH, "TIFF"), 4, "has 3 channels, and the network takes 4"),
            (tiff(np.zeros((8, 8, 4), np.uint8), photometric="minisblack", planarconfig="contig"), 3, "has 4 channels"),
            (tiff(np.zeros((8, 8, 5), np.uint8), photometric="rgb"), 3, "has 5 channels, and the network takes 3"),
            (b"nothing", 4, "is not an image"),
            (saved(SMOOTH, "JPEG")[:-20], 4, "broken JPEG"),
            (saved(SMOOTH, "PNG")[:-20], 4, "broken PNG"),
        ],
    )
    def test_another_number_of_channels_is_refused(self, read, data, channels, words):
        with pytest.raises(ImageError, match=words):
            read(data, channels=channels)

    def test_compressions_that_need_another_package(self, read):
        data = bytearray(tiff(np.zeros((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig"))
        entry = data.index(struct.pack("<HHIH", 259, 3, 1, 1))
        data[entry + 8 : entry + 10] = struct.pack("<H", 5)
        with pytest.raises(ImageError, match=r"compressed in a way that is not read: .*LZW.* pip install imagecodecs"):
            read(bytes(data), channels=5)

    def test_cut_short(self, read):
        data = tiff(np.zeros((8, 8, 5), np.uint8), photometric="minisblack", planarconfig="contig")
        for length in (9, 40, len(data) - 99):
            with pytest.raises(ImageError, match="is a broken TIFF file"):
                read(data[:length], channels=5)


class TestImagesInMemory:
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
    def test_pil_images_of_every_mode(self, mode):
        image = Image.fromarray(SMOOTH)
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        expected = np.asarray(image.convert("RGB"))
        array = as_image_array(image)
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(np.dstack([array] * 3) if array.ndim == 2 else array, expected)

    def test_transparency_shows_the_colours_behind_it(self):
        image = Image.fromarray(SMOOTH)
        palette = image.convert("P")
        expected = np.asarray(palette.convert("RGB"))
        palette.info["transparency"] = bytes(range(256))
        np.testing.assert_array_equal(as_image_array(palette), expected)
        grey = image.convert("L").convert("LA").convert("La")
        np.testing.assert_array_equal(as_image_array(grey)[..., 0], np.asarray(image.convert("L")))

    @pytest.mark.parametrize(
        ("values", "mode"),
        [
            (np.uint16([[0, 257, 65535]]), "I;16"),
            (np.int32([[0, 257, 65535]]), "I"),
            (np.int32([[0, 1, 255]]), "I"),
            (np.float32([[0, 1 / 255, 1]]), "F"),
            (np.float32([[0, 1, 255]]), "F"),
        ],
    )
    def test_pil_images_of_more_bits(self, values, mode):
        image = Image.fromarray(values)
        assert image.mode == mode
        np.testing.assert_array_equal(as_image_array(image), [[0, 1, 255]])

    @pytest.mark.parametrize("values", [np.int32([[-1, 0]]), np.int32([[0, 70000]]), np.float32([[0, 300]])])
    def test_pil_images_without_a_known_range(self, values):
        with pytest.raises(ImageError, match=r"PIL image of mode [IF] holds .*values from"):
            as_image_array(Image.fromarray(values))

    @pytest.mark.parametrize(("mode", "channels"), [("LA", 2), ("RGBA", 4)])
    def test_bands_of_a_pil_image_are_channels_where_the_network_takes_as_many(self, mode, channels):
        image = Image.fromarray(SMOOTH).convert(mode)
        np.testing.assert_array_equal(as_image_array(image, channels), np.asarray(image))
        assert as_image_array(image.convert("CMYK"), 4).shape == (32, 48, 3)

    @pytest.mark.parametrize("channels", [2, 3, 4, 6])
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize(
        ("dtype", "factor"), [(torch.uint8, 1), (torch.float32, 1), (torch.float64, 1 / 255), (torch.float16, 1)]
    )
    def test_tensors(self, channels, last, dtype, factor):
        values = RNG.integers(0, 256, (9, 7, channels)).astype(np.uint8)
        tensor = (torch.from_numpy(values) * factor).to(dtype)
        tensor = tensor if last else tensor.permute(2, 0, 1)
        np.testing.assert_array_equal(as_image_array(tensor, channels), values)

    def test_tensors_that_know_gradients_and_have_few_bits(self):
        tensor = torch.full((3, 4, 5), 0.5, dtype=torch.bfloat16, requires_grad=True)
        np.testing.assert_array_equal(as_image_array(tensor), np.full((4, 5, 3), 128))
        np.testing.assert_array_equal(as_image_array(tensor[:1]), np.full((4, 5, 3), 128))
        np.testing.assert_array_equal(as_image_array(tensor[0]), np.full((4, 5, 3), 128))

    def test_a_batch_is_the_networks_input_and_stays_what_it_is(self):
        batch = torch.randn(2, 3, 4, 5)
        np.testing.assert_array_equal(as_image_array(batch), batch.numpy())

    def test_normalised_tensors_are_no_images(self):
        with pytest.raises(ImageError, match=r"The tensor holds float32 values from .*Expected values from 0 to 1"):
            as_image_array(torch.randn(3, 4, 5))

    def test_arrays_stay_what_they_are(self):
        for values in (SMOOTH, SMOOTH.astype(np.int64), SMOOTH / 255, SMOOTH[None] / 255):
            assert as_image_array(values) is values
        np.testing.assert_array_equal(as_image_array([[1, 2], [3, 4]]), [[1, 2], [3, 4]])

    def test_arrays_of_more_bits_and_of_one(self):
        np.testing.assert_array_equal(as_image_array(SMOOTH.astype(np.uint16) * 257), SMOOTH)
        np.testing.assert_array_equal(as_image_array(SMOOTH > 99), np.where(SMOOTH > 99, 255, 0))
