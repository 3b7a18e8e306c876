"""The image formats that are accepted, and the suffixes of their files."""

# Pillow supports over forty formats, but only these are accepted: EPS would start Ghostscript, and other
# formats have had decompression bombs. Format, as Pillow names it → suffixes of its files.
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
HEIF = "HEIC"  # decoded by pillow-heif
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # after "ftyp"

FORMATS = tuple(SUFFIXES)
# To recognise images among other files; a sample that gives a file's full name may use any suffix.
IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes) | {*HEIF_SUFFIXES}
FULL_DEPTH = 16  # bits of a deep grey image, unless it is known to use fewer
_ENDS = tuple(IMAGE_SUFFIXES)


def is_image_name(text: str) -> bool:
    """Whether a text ends as the names of image files do."""
    return text.lower().endswith(_ENDS)
