"""The report of a release of sequences shows paths, autocorrelations and lengths, marked as internal."""

from __future__ import annotations

from dpsynth.report.material import Material, ReportConfig
from dpsynth.report.page import _PARTS
from dpsynth.report.sequences import sequences_section
from tests.support import panels


def test_sequences_have_a_section_of_their_own_beside_real_ones_only():
    made, real = panels.panel(40, seed=1), panels.panel(40, seed=2)
    section = sequences_section(Material(schema=panels.SCHEMA, synthetic=made, train=real), ReportConfig())
    assert section.visibility == "internal" and len(section.blocks) == 3
    assert all(block.alt and block.png.startswith(b"\x89PNG") for block in section.blocks)
    assert sequences_section(Material(schema=panels.SCHEMA, synthetic=made), ReportConfig()) is None
    assert sequences_section in _PARTS


def test_a_table_has_no_section_of_sequences(make_table, schema):
    material = Material(schema=schema, synthetic=make_table(30, 0), train=make_table(30, 1))
    assert sequences_section(material, ReportConfig()) is None
