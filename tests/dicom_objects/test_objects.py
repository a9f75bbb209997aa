"""Objects lie where the answer does, refer to their image, say what they are for."""

import dataclasses
import sys

import highdicom
import numpy as np
import pydicom
import pytest

from mtpret_jax.dicom_objects import content, identity, writer
from mtpret_jax.inference import answers
from tests.dicom_objects import check_objects, phantoms

SEEDS = range(18)  # two of each kind of image
DATES = {
    "InstanceCreationDate",
    "InstanceCreationTime",
    "ContentDate",
    "ContentTime",
    "DateOfSecondaryCapture",
    "TimeOfSecondaryCapture",
    "ContributingEquipmentSequence",  # when the library wrote it
    "PresentationCreationDate",
    "PresentationCreationTime",
}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of odd headers


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return list(check_objects.write(tmp_path_factory.mktemp("objects"), SEEDS))


def make(kind, phantom, path, *kinds, answer=None, **scale):
    path.write_bytes(phantom.content)
    make_one = writer.Writer(phantoms.stub(kind, **scale), kinds)
    answer = answer or phantoms.answer(kind, phantom)
    return make_one(str(path), answer, phantoms.radiograph(phantom))


def read(content_of, kind="sr"):
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(content_of[0][kind]))


def changed(seed, **elements):
    """A phantom whose header is another; None takes an element away."""
    phantom = phantoms.draw(seed)
    data = pydicom.dcmread(pydicom.filebase.DicomBytesIO(phantom.content))
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    written = pydicom.filebase.DicomBytesIO()
    data.save_as(written)
    return dataclasses.replace(phantom, content=written.getvalue(), header=data)


def test_objects_lie_within_a_pixel_of_the_answer(made):
    places = {}
    for written in made:
        if (apart := check_objects.distance(written)) is not None:
            places.setdefault((written.kind, written.answer), []).append(apart)

    assert len(places) == 9  # boxes, masks and points, each in three kinds of objects
    assert all(max(apart) <= 1 for apart in places.values())
    assert max(places["sr", answers.Detection]) == 0


def test_objects_are_of_the_patient_study_and_image(made):
    for written in made:
        data, source = pydicom.dcmread(written.path), written.phantom.header
        for name in ("PatientID", "PatientName", "PatientSex", "StudyInstanceUID"):
            assert str(data.get(name) or "") == str(source.get(name) or "")
        assert data.StudyInstanceUID != data.SeriesInstanceUID
        assert data.SOPInstanceUID == data.file_meta.MediaStorageSOPInstanceUID
        refers = [
            element.value
            for element in data.iterall()
            if element.keyword == "ReferencedSOPInstanceUID"
        ]
        assert set(refers) == {source.SOPInstanceUID}
        if written.kind == "seg" and "FrameOfReferenceUID" in source:
            assert data.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_objects_say_that_they_are_for_research(made):
    for written in made:
        data = pydicom.dcmread(written.path)
        assert data.ContentQualification == "RESEARCH"
        assert "not for clinical use" in data.SeriesDescription
        if written.kind == "sr":
            assert data.VerificationFlag == "UNVERIFIED"
            assert data.PreliminaryFlag == "PRELIMINARY"
        elif written.kind != "sc":
            assert data.ContentLabel == "RESEARCH_ONLY"
            assert data.ContentDescription == identity.RESEARCH


def test_nothing_private_and_no_comment_is_taken_over(made):
    for written in made:
        assert written.phantom.header.PatientComments
        words = [
            (element.tag.is_private, str(element.value))
            for element in pydicom.dcmread(written.path).iterall()
            if element.keyword != "PixelData"
        ]
        assert not any(is_private for is_private, _ in words)
        assert not any("next door" in said for _, said in words)


def test_geometry_of_masks_is_the_image_s(made):
    with_plane = 0
    for written in made:
        source = written.phantom.header
        if written.kind != "seg":
            continue
        data = pydicom.dcmread(written.path)
        assert (data.Rows, data.Columns) == (source.Rows, source.Columns)
        shared = data.SharedFunctionalGroupsSequence[0]
        if "PlaneOrientationSequence" in shared:
            with_plane += 1
            turned = shared.PlaneOrientationSequence[0].ImageOrientationPatient
            assert turned == source.ImageOrientationPatient
        assert ("PixelMeasuresSequence" in shared) == (
            "PixelSpacing" in source and "SliceThickness" in source
        )
        if "PixelMeasuresSequence" in shared:
            spacing = shared.PixelMeasuresSequence[0].PixelSpacing
            assert spacing == pytest.approx(source.PixelSpacing)
    assert with_plane


def test_identifiers_are_the_same_for_the_same_image_and_model(tmp_path):
    file, phantom = tmp_path / "a.dcm", phantoms.draw(3)
    one, again = (
        make(answers.Segmentation, phantom, file, *content.KINDS)[0] for _ in range(2)
    )
    other = make(answers.Segmentation, phantoms.draw(4), file, *content.KINDS)[0]
    sister = make(answers.Detection, phantom, file, "sr", "gsps", "sc")[0]

    def plain(objects, kind):
        data = pydicom.dcmread(pydicom.filebase.DicomBytesIO(objects[kind]))
        return {
            element.keyword: element.value
            for element in data
            if element.keyword not in DATES
        }

    seen = set()
    for kind in content.KINDS:
        first = plain(one, kind)
        assert first == plain(again, kind)
        for objects in (one, other, sister):
            if kind in objects:
                found = plain(objects, kind)
                assert pydicom.uid.UID(found["SOPInstanceUID"]).is_valid
                seen |= {found["SOPInstanceUID"], found["SeriesInstanceUID"]}
    assert len(seen) == 2 * (4 + 4 + 3)


def test_what_was_told_beside_the_image_changes_the_identifier(tmp_path):
    phantom = phantoms.draw(0)
    told = [
        make(
            answers.Regression,
            phantom,
            tmp_path / "a.dcm",
            "sr",
            answer=phantoms.answer(answers.Regression, phantom) | {"second": sex},
        )
        for sex in ("M", "F")
    ]

    assert read(told[0]).SOPInstanceUID != read(told[1]).SOPInstanceUID


@pytest.mark.parametrize(
    ("said", "expected"), [("YES", "YES"), ("NO", "NO"), ("", "YES"), ("odd", "YES")]
)
def test_text_burned_in_is_as_the_source_says_or_may_be_there(said, expected, tmp_path):
    phantom = changed(1, BurnedInAnnotation=said)

    made = make(answers.Detection, phantom, tmp_path / "a.dcm", "sc")

    assert read(made, "sc").BurnedInAnnotation == expected


def test_a_report_has_the_numbers(tmp_path):
    phantom, file = phantoms.draw(5), tmp_path / "a.dcm"

    def groups(kind, get):
        data = read(make(kind, phantom, file, "sr"))
        report = highdicom.sr.ComprehensiveSR.from_dataset(data)
        return getattr(report.content, f"get_{get}_measurement_groups")()

    (number, *_) = groups(answers.Regression, "image")
    (measured,) = number.get_measurements()
    assert (measured.value, measured.unit.value) == (93.5, "mo")
    grades = groups(answers.Ordinal, "image")
    shares = [grade.get_measurements()[0].value for grade in grades]
    assert shares == [12.5, 75, 12.5]
    chosen = [g.get_qualitative_evaluations()[0].value.meaning for g in grades]
    assert chosen == ["No", "Yes", "No"]
    boxes = groups(answers.Detection, "planar_roi")
    assert [box.get_measurements()[0].value for box in boxes] == [87.5, 12.5]
    assert boxes[0].finding_type.meaning == phantoms.CLASSES[1]
    points = groups(answers.Landmarks, "planar_roi")  # without the one at no place
    assert [point.finding_type.meaning for point in points] == list(
        phantoms.CLASSES[1:]
    )


def test_a_report_without_boxes_says_that_there_are_none(tmp_path):
    made = make(
        answers.Detection,
        phantoms.draw(2),
        tmp_path / "a.dcm",
        "sr",
        "gsps",
        answer={"boxes": []},
    )

    report = highdicom.sr.ComprehensiveSR.from_dataset(read(made))
    (group,) = report.content.get_image_measurement_groups()
    assert group.get_measurements()[0].value == 0
    (annotation,) = read(made, "gsps").GraphicAnnotationSequence
    assert "GraphicObjectSequence" not in annotation
    assert annotation.TextObjectSequence[0].UnformattedTextValue == identity.RESEARCH


def test_weak_boxes_are_in_the_report_and_not_on_the_image(tmp_path):
    made = make(answers.Detection, phantoms.draw(2), tmp_path / "a.dcm", "gsps")

    (annotation,) = read(made, "gsps").GraphicAnnotationSequence
    assert len(annotation.GraphicObjectSequence) == 1


def test_what_the_network_did_not_see_is_a_segment(tmp_path):
    phantom = phantoms.draw(2)
    answer = phantoms.answer(answers.Segmentation, phantom)
    answer["mask"][:3] = answers.NOT_SEEN

    made = make(answers.Segmentation, phantom, tmp_path / "a.dcm", "seg", answer=answer)

    data = read(made, "seg")
    assert [item.SegmentLabel for item in data.SegmentSequence][-1].startswith(
        "not seen"
    )
    np.testing.assert_array_equal(data.pixel_array[-1], answer["mask"] == 255)


def test_graphics_show_the_image_in_the_greys_of_its_header(made):
    shapes, tables = set(), 0
    for written in made:
        if (written.kind, written.answer) != ("gsps", answers.Detection):
            continue
        data, source = pydicom.dcmread(written.path), written.phantom.header
        inverted = source.PhotometricInterpretation == "MONOCHROME1"
        assert data.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")
        voi = data.get("SoftcopyVOILUTSequence", [pydicom.Dataset()])[0]
        is_window = source.get("WindowWidth", 0) > 0
        assert is_window == ("WindowWidth" in voi)
        if "VOILUTSequence" in source:
            table = np.frombuffer(voi.VOILUTSequence[0].LUTData, "<u2")
            assert table[0] == 0
            assert (np.diff(table.astype(int)) >= 0).all()
            tables += 1
        shapes.add((inverted, data.PresentationLUTShape))
        area = data.DisplayedAreaSelectionSequence[0]
        spacing = source.get("PixelSpacing") or source.get("ImagerPixelSpacing")
        assert area.get("PresentationPixelSpacing") == spacing
    assert len(shapes) == 2
    assert tables


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"StudyInstanceUID": None}, "its StudyInstanceUID is missing"),
        ({"SeriesInstanceUID": "none"}, "its SeriesInstanceUID is none"),
        ({"Rows": 5}, "another image than when it was read first"),
    ],
)
def test_a_file_that_nothing_can_refer_to_is_told(elements, reason, tmp_path):
    phantom = changed(1, **elements)

    made, why = make(answers.Detection, phantom, tmp_path / "a.dcm", "sr", "gsps")

    assert not made
    assert why.startswith(reason)


def test_odd_values_of_a_patient_are_left_empty(tmp_path):
    phantom = changed(1, PatientSex="X", PatientBirthDate="unknown", StudyDate="1.2.3")

    data = read(make(answers.Detection, phantom, tmp_path / "a.dcm", "sr"))

    assert (data.PatientSex, data.PatientBirthDate, data.StudyDate) == ("", "", "")


def test_an_image_in_colour_has_no_graphics_but_the_rest(tmp_path):
    phantom = changed(1, PhotometricInterpretation="RGB", SamplesPerPixel=3)

    made, why = make(answers.Detection, phantom, tmp_path / "a.dcm", "sr", "gsps")

    assert list(made) == ["sr"]
    assert why.startswith("gsps: the image is in colour")


def test_kinds_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="--dicom: of classification there is no seg"):
        writer.Writer(phantoms.stub(answers.Classification), ["sr", "seg"])
    with pytest.raises(ValueError, match="'pdf' is none of sr, seg, gsps, sc"):
        writer.Writer(phantoms.stub(answers.Detection), ["pdf"])


def test_every_kind_of_answer_says_what_objects_it_has():
    assert set(content.CONTENTS) == set(answers.ANSWERS.values())


def test_a_library_that_is_missing_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)

    with pytest.raises(ImportError, match=r"pip install '\.\[dicom\]'"):
        writer.Writer(phantoms.stub(answers.Detection), ["sr"])


@pytest.mark.skipif(not check_objects.PROGRAM, reason="dciodvfy is not found")
def test_dciodvfy_says_nothing_that_is_not_explained(made):
    said = {
        (written.kind, message)
        for written in made
        if written.phantom.header.SOPInstanceUID in [f"2.25.9{n}" for n in range(9)]
        for message in check_objects.messages(written.path)
    }

    assert not [row for row in said if not row[1].startswith(check_objects.EXPLAINED)]
