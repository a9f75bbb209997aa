"""Who made an object; identifiers that are the same for the same image and model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import uuid
from importlib import metadata
from typing import Any

from highdicom import coding_schemes
from highdicom.sr import CodedConcept

from mtpret_jax.dicom_objects import content, source
from mtpret_jax.inference import model as model_lib
from tfds_builders.images import limits

FORM = "1"  # the next one whenever the same answer gives other objects than before
SCHEME = "99MTPRET"  # 99: a scheme of one's own
RESEARCH = "Unverified, research only: not for clinical use"
LABEL = "RESEARCH_ONLY"
_FIRST_SERIES = 9001  # numbers that scanners do not reach
_LONGEST = 64  # characters of most texts; DICOM's LO
_PLAIN_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,14}[A-Za-z0-9]|[A-Za-z0-9]")


@dataclasses.dataclass(frozen=True)
class Maker:
    """The model, as objects name it.

    Attributes:
      digest: SHA-256 of what the model is: weights, preparation, decisions.
      name: Its run and task.
      version: The program's.
    """

    digest: str
    name: str
    version: str

    @classmethod
    def of(cls, model: model_lib.Model) -> Maker:
        """Names a model that has a head."""
        decided = model.description.decisions.get(model.task, {})
        told = json.dumps([model.describe(), decided], sort_keys=True, default=str)
        return cls(
            digest=hashlib.sha256(told.encode()).hexdigest(),
            name=text(f"{model.description.run} {model.task}"),
            version=metadata.version("mtpret_jax"),
        )

    def uid(self, *parts: str) -> str:
        """A UID of these parts and this model: a UUID of their hash, below 2.25."""
        name = json.dumps([FORM, self.digest, *parts])
        return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"

    def options(self, header: Any, kind: str, told: str) -> dict[str, Any]:
        """What all kinds of objects say of themselves, as highdicom takes it.

        Args:
          header: The source image's, by `source.read`.
          kind: One of `content.KINDS`.
          told: What was told beside the image, which changes the answer; "" mostly.
        """
        return {
            "series_instance_uid": self.uid("series", kind, header.SeriesInstanceUID),
            "series_number": _FIRST_SERIES + content.KINDS.index(kind),
            "sop_instance_uid": self.uid(kind, header.SOPInstanceUID, told),
            "instance_number": max(1, int(header.get("InstanceNumber", 1))),
            "manufacturer": "mtpret_jax",
            "manufacturer_model_name": self.name,
            "software_versions": self.version,
            "device_serial_number": self.digest,
            "series_description": f"mtpret_jax {kind}, research, not for clinical use",
            "specific_character_set": source.UNICODE,
            "content_qualification": "RESEARCH",
            "transfer_syntax_uid": "1.2.840.10008.1.2.1",  # explicit little endian
        }


def scheme() -> coding_schemes.CodingSchemeIdentificationItem:
    """What `SCHEME` is."""
    return coding_schemes.CodingSchemeIdentificationItem(
        SCHEME, name="Classes of a model", responsible_organization="mtpret_jax"
    )


def text(words: str, longest: int = _LONGEST) -> str:
    """Words as one value of an element: one line, no backslash, not too long."""
    return limits.printable(words.replace("\\", "/"), longest).replace("\\", "/")


def code(name: str) -> CodedConcept:
    """A model's word as a concept of `SCHEME`; its value is the word where it fits."""
    meaning = text(name) or "unnamed"
    value = meaning
    if not _PLAIN_CODE.fullmatch(meaning):
        value = hashlib.sha256(name.encode()).hexdigest()[:16]
    return CodedConcept(value, SCHEME, meaning)
