"""Pictures in a row to a GIF or an MP4 file, whole or not at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from particles import durable
from particles.errors import ArgumentError, BackendError, ParticlesError, StorageError, missing_extra

# frames, file, seconds that each frame is shown
Writer = Callable[[Iterable[np.ndarray], Path, Sequence[float]], None]


def writer_of(path: Path) -> Writer:
    """What writes the kind of file that the suffix names; asked for before any picture is drawn.

    Raises:
        ArgumentError: another suffix than .gif and .mp4.
        MissingExtraError: an MP4 without ffmpeg.
        StorageError: a folder that does not exist.
    """
    suffix = path.suffix.lower()
    if suffix not in (".gif", ".mp4"):
        raise ArgumentError(f"{path.name!r} has the suffix {suffix!r}", "name the animation .gif or .mp4")
    if not path.parent.is_dir():
        raise StorageError(f"there is no folder {str(path.parent)!r}", "make it first, or write elsewhere")
    if suffix == ".gif":
        return write_gif
    program = ffmpeg()
    return lambda frames, file, shown: write_mp4(program, frames, file, shown)


def save(write: Writer, frames: Iterable[np.ndarray], path: Path, shown: Sequence[float]) -> None:
    """Write the frames beside `path` under another name, then rename: `path` is whole, or untouched.

    Arguments:
        write: of `writer_of(path)`.
        frames: (height, width, 4) arrays of uint8, RGBA, opaque and all of one shape.
        path: the file to make or to replace.
        shown: how long each frame is shown, in seconds.

    Raises:
        StorageError: a disk that is full, a folder that cannot be written.
    """
    try:
        with durable.whole(path) as part:
            write(frames, part, shown)
    except ParticlesError:
        raise
    except OSError as error:
        remedy = "make room, or write to another folder"
        raise StorageError(f"{str(path)!r} cannot be written ({error.strerror or error})", remedy) from error


def write_gif(frames: Iterable[np.ndarray], file: Path, shown: Sequence[float]) -> None:
    """A GIF that repeats for ever, with one palette for all frames: that of the first."""
    from PIL import Image

    images = (Image.fromarray(frame).convert("RGB") for frame in frames)
    first = next(images).quantize(96, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    rest = (image.quantize(palette=first, dither=Image.Dither.NONE) for image in images)
    # A GIF counts hundredths of a second.
    duration = [max(10 * round(100 * seconds), 20) for seconds in shown]
    first.save(file, format="GIF", save_all=True, append_images=rest, duration=duration, loop=0, optimize=False)


def write_mp4(program: str, frames: Iterable[np.ndarray], file: Path, shown: Sequence[float]) -> None:
    """H.264 in MP4, as projectors and browsers play it; a frame that is shown longer is repeated.

    Raises:
        BackendError: ffmpeg refuses; its last line is given.
    """
    step = min(shown)
    frames = iter(frames)
    first = even(next(frames))
    height, width, _ = first.shape
    source = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{width}x{height}", "-r", f"{1 / step:g}", "-i", "-"]
    quality = ["-preset", "veryfast", "-crf", "18"]
    target = ["-an", "-c:v", "libx264", *quality, "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    command = [program, "-y", "-loglevel", "error", *source, *target, os.fspath(file)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)
        try:
            for k, seconds in enumerate(shown):
                picture = memoryview(first if k == 0 else even(next(frames)))
                for _ in range(round(seconds / step)):
                    process.stdin.write(picture)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg gave up: its exit code and its log say why
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.wait() != 0:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise BackendError(f"ffmpeg could not write the video ({lines[-1]})", "write a .gif instead")


def even(frame: np.ndarray) -> np.ndarray:
    """The frame without a last odd row or column, which H.264 does not take."""
    height, width, _ = frame.shape
    return np.ascontiguousarray(frame[: height - height % 2, : width - width % 2])


def ffmpeg() -> str:
    """The ffmpeg of the system, else that of imageio-ffmpeg.

    Raises:
        MissingExtraError: neither is there.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise missing_extra("an MP4 file", "ffmpeg", "video") from error
