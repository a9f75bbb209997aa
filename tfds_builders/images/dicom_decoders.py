"""Decodes the pixels of a DICOM file: one decoder for each transfer syntax.

So pixels do not depend on what else is installed. Those written in C, beside Pillow's,
work in a process of their own: a crash in one costs one file.

Run as a command, this file is that process.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

# Transfer syntaxes and who decodes them; others are not compressed, or refused.
PILLOW, OPENJPEG, GDCM, PYDICOM = "pillow", "pylibjpeg", "gdcm", "pydicom"
DECODERS = {
    "1.2.840.10008.1.2.4.50": PILLOW,  # JPEG, 8 bits
    "1.2.840.10008.1.2.4.51": GDCM,  # JPEG extended, 8 and 12 bits
    "1.2.840.10008.1.2.4.57": GDCM,  # JPEG lossless
    "1.2.840.10008.1.2.4.70": GDCM,  # JPEG lossless, first predictor
    "1.2.840.10008.1.2.4.80": GDCM,  # JPEG-LS lossless
    "1.2.840.10008.1.2.4.81": GDCM,  # JPEG-LS
    "1.2.840.10008.1.2.4.90": OPENJPEG,  # JPEG 2000 lossless
    "1.2.840.10008.1.2.4.91": OPENJPEG,  # JPEG 2000
    "1.2.840.10008.1.2.4.201": OPENJPEG,  # High-throughput JPEG 2000, three kinds
    "1.2.840.10008.1.2.4.202": OPENJPEG,
    "1.2.840.10008.1.2.4.203": OPENJPEG,
    "1.2.840.10008.1.2.5": PYDICOM,  # run lengths
}
_NEEDS = {OPENJPEG: "pylibjpeg-openjpeg", GDCM: "python-gdcm"}
Header = Mapping[str, str | int]
_EXTENDED = "1.2.840.10008.1.2.4.51"
_LONGEST = 120.0  # seconds for one image
# What a decoder reads of a header.
_ELEMENTS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)


class DecoderError(ValueError):
    """The pixels can't be decoded; the message says why."""


def decode(data: Any) -> np.ndarray:
    """The values of an image as they are in the file, or its colours.

    Args:
      data: A pydicom data set of one frame, whose elements of the pixels are all there.

    Returns:
      [H, W] or, of colours, [H, W, 3] in red, green and blue.

    Raises:
      DecoderError: If they can't be decoded, or the decoder is missing or crashed.
    """
    syntax = str(data.file_meta.TransferSyntaxUID)
    decoder = DECODERS.get(syntax, "")
    if decoder not in _NEEDS:
        return _by_pydicom(data, decoder)
    header = {name: data.get(name) for name in _ELEMENTS if name in data}
    header = {n: str(v) if n[0:2] == "Ph" else int(v) for n, v in header.items()}
    return _process().decode(syntax, header, bytes(data.PixelData))


def _by_pydicom(data: Any, decoder: str) -> np.ndarray:
    from pydicom import pixels

    is_grey = int(data.SamplesPerPixel) == 1
    # By itself pydicom drops bits by BitsStored, whatever HighBit says.
    options: Any = {"correct_unused_bits": not is_grey}
    values, _ = pixels.get_decoder(data.file_meta.TransferSyntaxUID).as_array(
        data, index=0, raw=is_grey, decoding_plugin=decoder, **options
    )
    return np.asarray(values)


class _Process:
    """Another process that decodes, begun anew after a crash."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, syntax: str, header: Header, pixels: bytes) -> np.ndarray:
        """As the module's."""
        if self._child is None:
            path = os.pathsep.join(filter(None, sys.path))
            # -P: the modules beside this file are not Python's own.
            self._child = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # Decoders print what they dislike.
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is for the one that asked.
            )
        child: Any = self._child
        watch = threading.Timer(_LONGEST, child.kill)
        watch.start()
        try:
            _send(child.stdin, (syntax, header, pixels))
            values, reason = _receive(child.stdout)
        except (OSError, EOFError) as error:
            self.close()
            raise DecoderError(
                f"its decoder, {DECODERS[syntax]}, crashed or took too long"
            ) from error
        except BaseException:  # Ctrl-C: half an answer may be left.
            self.close()
            raise
        finally:
            watch.cancel()
        if reason:
            raise DecoderError(reason)
        return values

    def close(self) -> None:
        """Ends the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.communicate()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


_local = threading.local()  # Threads decode side by side, each with its own process.


def _process() -> _Process:
    if getattr(_local, "owner", None) != os.getpid():  # Another one's after a fork.
        _local.owner, _local.process = os.getpid(), _Process()
    return _local.process


def _send(stream: IO[bytes], message: Any) -> None:
    content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    stream.write(struct.pack("<Q", len(content)) + content)
    stream.flush()


def _receive(stream: IO[bytes]) -> Any:
    (length,) = struct.unpack("<Q", _exactly(stream, 8))
    return pickle.loads(_exactly(stream, length))


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content


def _answer(syntax: str, header: Header, pixels: bytes) -> np.ndarray:
    """Decodes in this process."""
    from pydicom import dataset, uid

    data = dataset.Dataset()
    data.file_meta = dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = uid.UID(syntax)
    for name, value in header.items():
        setattr(data, name, value)
    data.PixelData = pixels
    data["PixelData"].VR = "OB"
    if DECODERS[syntax] == GDCM:
        import gdcm  # noqa: F401 - pydicom would not say what is missing

        if syntax == _EXTENDED and header["BitsStored"] != 8:
            return _by_gdcm_alone(data)
    else:
        import openjpeg  # noqa: F401 - for the same reason
    return _by_pydicom(data, DECODERS[syntax])


def _by_gdcm_alone(data: Any) -> np.ndarray:
    """JPEG of 12 bits, which GDCM decodes from files only, and pydicom does not ask."""
    import gdcm
    from pydicom import uid

    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = (
        uid.SecondaryCaptureImageStorage
    )
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    reader = gdcm.ImageReader()
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        data["PixelData"].is_undefined_length = True
        content = io.BytesIO()
        data.save_as(content, enforce_file_format=True)
        file.write(content.getvalue())
        file.flush()
        reader.SetFileName(file.name)
        if not reader.Read():
            raise DecoderError("damaged, or not a JPEG of 12 bits")
        buffer = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    values = np.frombuffer(buffer, "<u2")
    return values.reshape(int(data.Rows), int(data.Columns)).copy()


def _serve(given: IO[bytes], told: IO[bytes]) -> None:
    """Answers until nobody asks any more."""
    while True:
        try:
            syntax, header, pixels = _receive(given)
        except EOFError:
            return
        try:
            answer = _answer(syntax, header, pixels), ""
        except ImportError:
            needed = _NEEDS[DECODERS[syntax]]
            reason = f"needs {needed}, which the extra `dicom` installs"
            answer = None, f"transfer syntax {syntax} {reason}"
        except Exception as error:  # Decoders raise almost anything.
            answer = None, f"{type(error).__name__}: {error}"
        _send(told, answer)


if __name__ == "__main__":
    # What decoders print must not be taken for an answer.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, out)
