"""From the answer for a file to its DICOM objects, or the reason why there are none."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from mtpret_jax.dicom_objects import content
from mtpret_jax.inference import answers, preprocessing
from mtpret_jax.inference import model as model_lib
from tfds_builders.images import limits


class Writer:
    """Makes objects of one model's answers.

    Attributes:
      kinds: Which ones, of `content.KINDS`, in that order.
    """

    def __init__(self, model: model_lib.Model, kinds: Sequence[str]) -> None:
        """Checks what is asked for.

        Raises:
          ValueError: If the model has no head, a kind is unknown or makes no sense.
          ImportError: If highdicom is missing.
        """
        model.require_head()
        self.kinds = tuple(kind for kind in content.KINDS if kind in kinds)
        _check(model, kinds)
        try:
            import highdicom  # noqa: F401 - here, so that one line says what is missing
        except ImportError as error:
            raise ImportError(
                "--dicom needs highdicom, which the extra `dicom` installs: "
                "pip install '.[dicom]' in a clone."
            ) from error
        from mtpret_jax.dicom_objects import identity

        self._model, self._maker = model, identity.Maker.of(model)

    def __call__(
        self, file: str, answer: answers.Answer, radiograph: preprocessing.Radiograph
    ) -> tuple[dict[str, bytes], str]:
        """The objects of a file.

        Args:
          file: Its path.
          answer: What the model says, with the mask where there is one.
          radiograph: What it was read as.

        Returns:
          Contents of DICOM files by kind, and why kinds are missing; "" if none is.
        """
        from mtpret_jax.dicom_objects import source

        try:
            with limits.QUIET:
                header = source.read(file)
            if (header.Rows, header.Columns) != (radiograph.height, radiograph.width):
                raise source.Unfit("another image than when it was read first")
        except Exception as error:  # pydicom raises almost anything on damaged headers.
            return {}, _reason(error)
        made, problems = {}, []
        for kind in self.kinds:
            try:
                with limits.QUIET:
                    made[kind] = self._make(kind, file, header, answer)
            except Exception as error:  # highdicom refuses what others let pass.
                problems.append(f"{kind}: {_reason(error)}")
        return made, "; ".join(problems)

    def _make(self, kind: str, file: str, header: Any, answer: answers.Answer) -> bytes:
        from mtpret_jax.dicom_objects import capture, presentation, report, segments

        model = self._model
        told = str(answer.get("second", ""))
        options = self._maker.options(header, kind, told)
        if kind == content.PICTURE:
            pixels, _ = preprocessing.open_pixels(file, bit_depth=8)
            drawn = model.answers.draw(pixels, answer)
            made: Any = capture.make(header, drawn, options)
        elif kind == content.MASKS:
            mask = answer["mask"]
            made = segments.make(header, self._maker, mask, model.classes, options)
        else:
            found = content.findings(model.answers, answer, model.classes)
            if kind == content.REPORT:
                found = [finding for finding in found if finding.is_reported]
                made = report.make(header, self._maker, found, options)
            else:
                made = presentation.make(header, found, options)
        file_content = io.BytesIO()
        made.save_as(file_content, enforce_file_format=True)
        return file_content.getvalue()


def _check(model: model_lib.Model, kinds: Sequence[str]) -> None:
    """Refuses kinds that do not exist, or not for the model."""
    able = content.CONTENTS[type(model.answers)].kinds
    for kind in kinds:
        if kind not in content.KINDS:
            raise ValueError(
                f"--dicom: {kind!r} is none of {', '.join(content.KINDS)}, which can "
                "be joined by commas."
            )
        if kind not in able:
            raise ValueError(
                f"--dicom: of {model.kind} there is no {kind}; there is "
                f"{', '.join(able)}."
            )


def _reason(error: Exception) -> str:
    """Why, in words; with the name of an error that nobody wrote for people."""
    from mtpret_jax.dicom_objects import source

    if isinstance(error, source.Unfit | preprocessing.Unreadable):
        return str(error)
    return limits.printable(f"{type(error).__name__}: {error}")
