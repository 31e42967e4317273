"""Patients: names that tell one, names that merely count, and the expression that is offered."""

import pytest

from semivox.data.patients import joined, patient_of, patient_pattern
from semivox.errors import DatasetError


def counted(form: str, *ranges: range | str) -> list[str]:
    """Return the names that a form makes of all combinations."""
    names = [form]
    for place, values in enumerate(ranges):
        names = [name.replace(f"<{place}>", format(value, "02d") if isinstance(value, int) else value)
                 for name in names for value in values]  # fmt: skip
    return names


@pytest.mark.parametrize(
    ("names", "one", "other"),
    [
        (counted("patient0<0>_frame<1>", range(3), range(1, 13, 11)), "patient002_frame01", "patient002_frame12"),
        (counted("x<0>_E<1>", range(3), "DS"), "x01_ED", "x01_ES"),
        (counted("sub-<0>_ses-<1>", range(3), range(2)), "sub-01_ses-00", "sub-01_ses-01"),
        (counted("sub-A<0>_ses-<1>_run-1", range(3), range(2)), "sub-A01_ses-00_run-1", "sub-A01_ses-01_run-1"),
        (counted("case_<0>_t<1>", range(3), range(2)), "case_02_t00", "case_02_t01"),
        (counted("k<0>_visit<1>", range(3), range(2)), "k02_visit00", "k02_visit01"),
        (counted("knee<0>_<1>", range(3), "LR"), "knee02_L", "knee02_R"),
        (counted("P<0>_<1>", range(3), range(2)), "P02_00", "P02_01"),
        (counted("tr<0>_<1>", range(6), range(30)), "tr02_00", "tr02_29"),
        (counted("BraTS-GLI-000<0>-0<1>", range(6), range(2)), "BraTS-GLI-00003-000", "BraTS-GLI-00003-001"),
        (["a_frame1", "a_frame2", "b_frame1", "plain"], "a_frame1", "a_frame2"),
        (["patient1_a", "patient1_b", "patient2_a", "other"], "patient1_a", "patient1_b"),
    ],
)  # fmt: skip
def test_names_of_several_scans_of_a_patient_are_seen(names, one, other):
    pattern = patient_pattern(names)
    patients = {name: patient_of(name, pattern) for name in names}  # it matches every name, or `split` would refuse it
    assert patients[one] == patients[other]
    assert 1 < len({*patients.values()}) < len(names)


@pytest.mark.parametrize(
    "names",
    [
        counted("hippocampus_0<0>", range(99)), counted("la_0<0>", range(30)), counted("BRATS_0<0>", range(99)),
        counted("img00<0>", range(40)), counted("BraTS20_Training_0<0>", range(99)), counted("case_000<0>", range(99)),
        counted("la2018_0<0>", range(30)), counted("<0>_0<1>", ["2018", "2019"], range(30)),
        counted("site<0>_<1>", range(6), range(30)), counted("KiTS<0>_0<1>", ["19", "21"], range(30)),
        counted("TCGA-<0>-<1>", ["02", "06", "CS"], ["0003", "0011", "0027", "4938"]),
        counted("R01-0<0>", range(30)) + counted("AMC-0<0>", range(30)), counted("pancreas0<0>", range(30)),
        ["06SR5RBREL16DQ6M8LWS", "0RZDK210BSMWAA6467LU"], ["ann_1", "ann_2", "bob_1"], counted("P<0>", range(9)),
        counted("<0>_scan_<1>", ["liver", "spleen"], range(9)), counted("heart_frame<0>", range(9)), ["one"], [],
    ],
)  # fmt: skip
def test_names_that_merely_count_raise_no_alarm(names):
    assert patient_pattern(names) is None


def test_the_first_group_is_the_patient_where_it_takes_part_and_else_the_whole_match():
    assert [patient_of(name, r"^(\d)x|^y\d") for name in ("1x", "y2")] == ["1", "y2"]
    assert patient_of("a", None) == "a"
    assert patient_of("a", "b", unknown="?") == "?"


@pytest.mark.parametrize("patients", ["(", "a{99999999999999999999}", "(" * 5000 + ")" * 5000])
def test_an_expression_that_is_none_is_refused_in_one_short_line(patients):
    with pytest.raises(DatasetError, match="no regular expression") as caught:
        patient_of("a", patients)
    assert len(str(caught.value)) < 500


def test_patients_that_are_one_are_joined_and_all_others_stay():
    names = ["p1.a", "p1.b", "p2.a", "p3.a", "p3.b"]
    pattern = joined(r"^p\d", [["p1.a", "p1.b", "p2.a"]])
    assert [patient_of(name, pattern) for name in names] == ["p", "p", "p", "p3", "p3"]
    assert [patient_of(name, joined(None, [["ab", "xy"]])) for name in ("ab", "xy", "xyz")] == ["", "", "xyz"]
    assert patient_of("p2_a", joined(r"^(p\d)_", [["p1_a", "p1_b"]])) == "p2"


def test_groups_that_begin_alike_are_joined_as_patients_of_their_own():
    names = [f"case_{number:03d}" for number in range(1, 8)]
    groups = [["case_001", "case_005"], ["case_003", "case_004"]]
    pattern = joined(None, groups, names)
    found = {name: patient_of(name, pattern) for name in names}
    assert found["case_001"] == found["case_005"] != found["case_003"] == found["case_004"]
    assert len(set(found.values())) == 5, "nobody else is one of them"
    named = ["case_00", *names]  # one bears the name that a group would have
    assert len({patient_of(name, joined(None, groups, named)) for name in named}) == 6


def test_where_too_few_beginnings_are_shared_no_expression_is_offered():
    assert joined(None, [["a1", "a2"], ["a3", "a4"]]) is not None, "'a' and ''"
    assert joined(None, [["a1", "a2"], ["a3", "a4"], ["a5", "a6"]]) is None
